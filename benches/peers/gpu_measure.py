"""Times training steps on a GPU: whole steps, or CUDA graphs of whole steps.

    step     learning rate, forward, loss, backward, clipping by the global norm, AdamW (fused)

The batches lie in device memory and differ from step to step. Nothing waits for the device inside
the timed region. A step's time is the interval between two events, one after each step, so it
contains the time in which the device waits for Python.
"""

import gc
import statistics
import time

import torch

BATCHES, WARM_UP, RAMP = 32, 10, 20


def zipf_batches(vocabulary, batch, length, device, seed=1):
    """`[BATCHES, 2, B, T]`: inputs and targets; word `r` has probability proportional to 1 / (r + 2.7)."""
    generator = torch.Generator().manual_seed(seed)
    weights = 1 / (torch.arange(vocabulary, dtype=torch.float64) + 2.7)
    stream = torch.multinomial(weights, BATCHES * batch * (length + 1), replacement=True, generator=generator)
    windows = stream.view(BATCHES, batch, length + 1)
    return torch.stack([windows[..., :-1], windows[..., 1:]], 1).contiguous().to(device)


def device_name(device):
    return torch.cuda.get_device_name() if device.type == "cuda" else "CPU"


def versions(device):
    try:
        import triton

        triton_version = triton.__version__
    except ImportError:
        triton_version = None
    return {"torch": torch.__version__, "triton": triton_version, "device": device_name(device)}


class Trainer:
    """One model's training step, with the state that it changes."""

    def __init__(self, model, loss, rate, weight_decay, betas, device):
        self.loss, self.peak_rate, self.device = loss, rate, device
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        decays = lambda p: p.dim() > 1 and getattr(p, "decays", True)
        on_gpu = device.type == "cuda"
        self.rate = torch.zeros((), device=device)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in self.parameters if decays(p)], "weight_decay": weight_decay},
                {"params": [p for p in self.parameters if not decays(p)], "weight_decay": 0.0},
            ],
            lr=self.rate, betas=betas, fused=True, capturable=on_gpu,
        )  # fmt: skip
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate

    def set_rate(self, step):
        self.rate.fill_(self.peak_rate * min(1.0, (step + 1) / RAMP))

    def step(self, inputs, targets):
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        return loss.detach()


class Graph:
    """A captured step; `run` copies a batch into the graph's inputs and replays it."""

    def __init__(self, step, batch):
        self.batch = batch.clone()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                step(*self.batch)
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        gc.collect()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.loss = step(*self.batch)

    def run(self, batch):
        self.batch.copy_(batch)
        self.graph.replay()
        return self.loss


def intervals(body, runs, device):
    """Milliseconds between the ends of consecutive runs, and milliseconds a run by the host's clock."""
    if device.type != "cuda":
        times = [time.perf_counter()]
        for run in range(runs):
            body(run)
            times.append(time.perf_counter())
        return [1e3 * (b - a) for a, b in zip(times, times[1:])], 1e3 * (times[-1] - times[0]) / runs
    events = [torch.cuda.Event(enable_timing=True) for _ in range(runs + 1)]
    torch.cuda.synchronize()
    start = time.perf_counter()
    events[0].record()
    for run in range(runs):
        body(run)
        events[run + 1].record()
    torch.cuda.synchronize()
    wall = 1e3 * (time.perf_counter() - start) / runs
    return [a.elapsed_time(b) for a, b in zip(events, events[1:])], wall


def clear_memory(device):
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_memory(device):
    if device.type != "cuda":
        return {"peak_memory": None, "peak_memory_reserved": None}
    return {
        "peak_memory": torch.cuda.max_memory_allocated(),
        "peak_memory_reserved": torch.cuda.max_memory_reserved(),
    }


def timing(times, wall):
    return {"median_ms": statistics.median(times), "fastest_ms": min(times), "wall_ms": wall, "runs": len(times)}


def measure_training(trainer, batches, runs, device, graph):
    """Trains for `WARM_UP + runs` steps and times the last `runs`; says how the loss went."""
    started = time.perf_counter()
    trainer.set_rate(0)
    losses = torch.zeros(WARM_UP + runs, device=device)
    first = trainer.step(*batches[0])
    if not torch.isfinite(first):
        raise FloatingPointError(f"the first loss is {first.item()}")
    first_step = time.perf_counter() - started
    run_step = Graph(trainer.step, batches[0]).run if graph else lambda batch: trainer.step(*batch)

    def body(step):
        trainer.set_rate(step)
        losses[step].copy_(run_step(batches[step % BATCHES]))

    for step in range(WARM_UP):
        body(step)
    result = timing(*intervals(lambda run: body(WARM_UP + run), runs, device))
    losses = losses.tolist()
    before, after = first.item(), statistics.mean(losses[-5:])
    finite = all(map(torch.isfinite, torch.tensor(losses)))
    return {
        **result, "first_step_s": first_step, **peak_memory(device),
        "first_loss": before, "last_loss": after, "finite": finite, "loss_falls": finite and after < before,
    }  # fmt: skip
