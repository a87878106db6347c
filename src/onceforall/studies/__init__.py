"""Studies: the tables of a paper made again, run by run, with its claims judged.

`study` says what has to be done (jobs, scales, the settings of a folder), `running` and `worker` do it in processes,
`results` reads what came out, `claims` judges. What belongs to one paper is data in the file of its name.
"""
