"""Other people's tools around the engine, each imported only when it is asked for.

`optuna`: a run as a study, and any strategy as a sampler. `tune`: any strategy as a searcher of Ray Tune. `mlflow`,
`wandb`, `tensorboard`: loggers that follow a search (`nas run --log`). `dashboard`: a run in optuna-dashboard.
"""
