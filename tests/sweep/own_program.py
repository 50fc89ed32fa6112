"""A Tune program with a scheduler and a search of its own, as the README shows it."""

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

import chemscale as cs


class Behind(FIFOScheduler):
    """Stops a run whose loss is 2 % above the best at the same number of examples."""

    def __init__(self):
        super().__init__()
        self.best = {}

    def on_trial_result(self, controller, trial, result):
        at, loss = result["examples"], result["valid_loss"]
        self.best[at] = min(loss, self.best.get(at, loss))
        return self.STOP if loss > 1.02 * self.best[at] else self.CONTINUE


class Doubling(Searcher):
    """Learning rates, each twice the last."""

    def __init__(self, rate):
        super().__init__(metric="valid_loss", mode="min")
        self.rate = rate

    def suggest(self, trial_id):
        self.rate *= 2
        return {"optim.lr": self.rate}

    def on_trial_complete(self, trial_id, result=None, error=False):
        pass


base = cs.RunSpec(
    model=cs.ChemGPT.sized(width=8),
    data=cs.Data("moses", size=500),
    optim=cs.Optim(batch=16),
    budget=cs.Budget(epochs=1),
    evaluation=cs.Evaluation(points=4, valid=128, test=256),
)
ray.init(num_cpus=2, include_dashboard=False)
train = cs.trainable(base, store="runs/own")
tuner = tune.Tuner(
    train,
    tune_config=tune.TuneConfig(
        metric="valid_loss",
        mode="min",
        scheduler=Behind(),
        search_alg=Doubling(0.001),
        num_samples=6,
        reuse_actors=True,  # spares each trial the start of a process
    ),
    run_config=tune.RunConfig(callbacks=[train.word]),  # tells the store what Tune stopped
)
best = tuner.fit().get_best_result(filter_nan_and_inf=True)
print(best.config["optim.lr"], cs.Store("runs/own").runs(lr=best.config["optim.lr"])["law_loss"][0])
