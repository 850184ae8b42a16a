"""Training steps of our models in PyTorch on one GPU, each in several ways; prints JSON lines.

    python3 gpu_step.py                      all cases, in at most 6 minutes
    python3 gpu_step.py --cases seed,head
    python3 gpu_step.py --check              compares the recurrences and losses with their equations

Cases: seed, teacher, student, student_quantized, head, recurrence. Protocol and limits: README.md.
Without a GPU the sizes are tiny, for a test of the script.
"""

import argparse
import copy
import json
import os
import subprocess
import sys
import time

import torch

import gpu_measure
from gpu_measure import Trainer, clear_memory, intervals, measure_training, peak_memory, timing, versions
from gpu_models import Distilled, Head, PropagatorModel, Seed, train_mode

BATCH, LENGTH, VOCABULARY = 20, 128, 30_000
BINS = [(2_000, 96, 7), (6_000, 48, 4), (22_000, 16, 2)]
TINY_BATCH, TINY_LENGTH, TINY_VOCABULARY = 3, 16, 120
TINY_BINS = [(20, 8, 7), (40, 4, 4), (60, 2, 2)]
PARAMETERS = {"seed": 4_146_120, "teacher": 10_476_848}
# Seconds that a case needs at least; less is not started.
LEAST_SECONDS = 12
CASES = ["seed", "teacher", "student", "student_quantized", "head", "recurrence"]


def variants(case):
    """What differs between contestants of a case, with the ways each is run in; the strongest first."""
    compiled, eager = "compile", "eager"
    if case == "head":
        return [({"loss": "torch"}, [compiled, eager]), ({"loss": "triton"}, [eager])]
    strong = [({"recurrence": "triton", "loss": "torch"}, [compiled, eager])]
    strong.append(({"recurrence": "triton", "loss": "triton"}, [compiled]))
    scan = ({"recurrence": "scan", "loss": "torch"}, [compiled, eager])
    if case.startswith("student"):
        return [*strong, scan]
    loop = ({"recurrence": "loop", "loss": "torch"}, [eager])
    gather = [({"recurrence": "triton", "loss": "torch", "experts": "gather"}, ["eager, no graph"])]
    return [*strong, scan, loop, *(gather if case == "seed" else [])]


def build(case, variant, tiny):
    """The model, and its learning rate, weight decay and betas."""
    torch.manual_seed(1)
    vocabulary = TINY_VOCABULARY if tiny else VOCABULARY
    if case == "head":
        size = {"tokens": TINY_BATCH * TINY_LENGTH, "width": 16} if tiny else {}
        return Head(**variant, **size, vocabulary=vocabulary), (1e-3, 0.0, (0.9, 0.999))
    if case == "seed":
        size = {"width": 16, "blocks": 2, "length": TINY_LENGTH} if tiny else {}
        return Seed(**variant, **size, vocabulary=vocabulary), (8e-3, 1.0, (0.9, 0.999))
    size = {"width": 16, "blocks": 2, "heads": 4} if tiny else {}
    teacher = PropagatorModel(**variant, **size, vocabulary=vocabulary)
    if case == "teacher":
        return teacher, (2e-3, 0.3, (0.9, 0.99))
    # A teacher that knows the words' frequencies, so that there is something to learn from it.
    with torch.no_grad():
        teacher.bias.copy_(-torch.log(torch.arange(vocabulary) + 2.7))
    student = PropagatorModel(
        **variant, **(size or {"width": 128, "blocks": 2, "heads": 64}), vocabulary=vocabulary,
        bins=TINY_BINS if tiny else BINS, quantized=case == "student_quantized",
        dropout=0.05, embedding_dropout=0.05, head_dropout=0.0, word_dropout=0.0,
    )  # fmt: skip
    return Distilled(student, teacher), (3e-3, 0.02, (0.9, 0.99))


class Session:
    """One process's measurements: sizes, deadline and output."""

    def __init__(self, arguments):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.tiny = self.device.type == "cpu"
        self.runs, self.mode = arguments.runs, arguments.mode
        self.only = arguments.ways.split(",") if arguments.ways else None
        self.deadline = time.monotonic() + arguments.seconds
        self.sizes = (TINY_BATCH, TINY_LENGTH) if self.tiny else (BATCH, LENGTH)

    def measured(self, labels, body):
        """Prints the result of `body`, or why there is none."""
        if self.only and labels["way"] not in self.only:
            return
        if time.monotonic() + LEAST_SECONDS > self.deadline:
            report({**labels, "error": "not started: the time is used up"})
            return
        try:
            report({**labels, **body(), **versions(self.device)})
        except Exception as failure:
            text = " ".join(str(failure).split())[:400]
            report({**labels, "error": f"{type(failure).__name__}: {text}"})

    def ways(self, bases):
        for base in bases:
            if base == "eager, no graph":
                yield "eager", False, False
                continue
            yield base, base == "compile", False
            if self.device.type == "cuda":
                yield f"{base}+cudagraphs", base == "compile", True

    def compiled(self, function):
        torch._dynamo.reset()
        return torch.compile(function, fullgraph=True, dynamic=False, mode=self.mode)

    def train(self, case):
        batch, length = self.sizes
        vocabulary = TINY_VOCABULARY if self.tiny else VOCABULARY
        batches = gpu_measure.zipf_batches(vocabulary, batch, length, self.device)
        for variant, bases in variants(case):
            if self.device.type == "cpu" and "triton" in variant.values() and not os.environ.get("TRITON_INTERPRET"):
                report({"case": case, "way": bases[0], **variant, "error": "needs a GPU, or TRITON_INTERPRET=1"})
                continue
            model, settings = build(case, variant, self.tiny)
            model = train_mode(model.to(self.device))
            count = sum(p.numel() for p in model.parameters() if p.requires_grad)
            if not self.tiny and count != PARAMETERS.get(case, count):
                raise AssertionError(f"{case} has {count} parameters instead of {PARAMETERS[case]}")
            initial = copy.deepcopy(model.state_dict())
            functions = {False: model.loss}
            for way, compiles, graph in self.ways(bases):
                if compiles and True not in functions:
                    functions[True] = self.compiled(model.loss)
                labels = {
                    "case": case, "way": way, **variant, "batch": batch, "length": length, "parameters": count,
                    **({"mode": self.mode} if compiles else {}),
                }  # fmt: skip

                def body():
                    model.load_state_dict(initial)
                    for parameter in model.parameters():
                        parameter.grad = None
                    clear_memory(self.device)
                    torch.manual_seed(2)
                    trainer = Trainer(model, functions[compiles], *settings, self.device)
                    return measure_training(trainer, batches, self.runs, self.device, graph)

                self.measured(labels, body)
            del model, initial, functions

    def alone(self, name, function, inputs, bases, labels):
        """Forward and backward of `function(*inputs)`, a scalar, without an optimizer."""
        compiled = None
        for way, compiles, graph in self.ways(bases):
            if compiles and compiled is None:
                compiled = self.compiled(function)

            def body():
                clear_memory(self.device)
                of = compiled if compiles else function

                def step(*_):
                    for x in inputs:
                        x.grad = None
                    loss = of(*inputs)
                    loss.backward()
                    return loss.detach()

                started = time.perf_counter()
                first = step().item()
                first_step = time.perf_counter() - started
                for _ in range(3):
                    step()
                run = step
                if graph:
                    captured = gpu_measure.Graph(step, torch.zeros(1, 1, device=self.device))
                    run = captured.graph.replay
                for _ in range(gpu_measure.WARM_UP):
                    run()
                times = timing(*intervals(lambda _: run(), self.runs, self.device))
                last = (captured.loss if graph else step()).item()
                same = abs(first - last) <= 1e-3 * max(1, abs(first))
                memory = peak_memory(self.device)
                return {**times, "first_step_s": first_step, **memory, "first_loss": first, "same_loss": same}

            self.measured({"case": name, "way": way, **labels}, body)

    def head(self):
        """The loss alone, forward and backward; a step of gradient descent must lower it."""
        batch, length = self.sizes
        vocabulary = TINY_VOCABULARY if self.tiny else VOCABULARY
        targets = gpu_measure.zipf_batches(vocabulary, batch, length, self.device)[0, 1]
        for variant, bases in variants("head"):
            if self.tiny and variant["loss"] == "triton" and not os.environ.get("TRITON_INTERPRET"):
                report({"case": "head", "way": bases[0], **variant, "error": "needs a GPU, or TRITON_INTERPRET=1"})
                continue
            model = build("head", variant, self.tiny)[0].to(self.device)
            labels = {**variant, "tokens": batch * length, "width": model.weight.shape[1], "vocabulary": vocabulary}
            inputs = list(model.parameters())
            self.alone("head", lambda *_: model.loss(None, targets), inputs, bases, labels)
            before = model.loss(None, targets)
            before.backward()
            with torch.no_grad():
                for parameter in inputs:
                    parameter -= 10 * parameter.grad
            after = model.loss(None, targets)
            report({"case": "head", "check": "descent", **variant, "loss_falls": bool(after < before)})

    def recurrence(self):
        """The recurrences alone at the sizes of seed and teacher, forward and backward."""
        from gpu_recurrences import propagator, resolvent

        batch, length = self.sizes
        heads = 4 if self.tiny else 384
        kind = torch.float32 if self.tiny else torch.bfloat16
        draw = lambda *shape, **options: torch.randn(*shape, device=self.device, **options)
        v, weights = draw(batch, length).requires_grad_(), draw(2, batch, length)
        maps, waves = draw(length, batch, 4 * heads, dtype=kind).requires_grad_(), draw(length, batch, 2 * heads)
        for method in ("triton", "scan", "loop"):
            if self.tiny and method == "triton" and not os.environ.get("TRITON_INTERPRET"):
                continue
            of_diagonal = lambda v: (torch.stack(resolvent(v, method)) * weights).sum()
            of_propagator = lambda maps: (propagator(maps, heads, method) * waves).sum()
            # The loop is unrolled into thousands of nodes: it is compiled here only.
            bases = ["eager"] if method == "triton" else ["compile", "eager"]
            labels = {"recurrence": method, "batch": batch, "length": length}
            self.alone("recurrence_diagonal", of_diagonal, [v], bases, {**labels, "heads": 1})
            self.alone("recurrence_propagator", of_propagator, [maps], bases, {**labels, "heads": heads})

    def run(self, case):
        {"head": self.head, "recurrence": self.recurrence}.get(case, lambda: self.train(case))()


def report(record):
    print(json.dumps(record), flush=True)


def run_apart(case, arguments, seconds):
    """Runs a case in a process of its own: an error on the device, or a long compilation, ends there."""
    command = [sys.executable, __file__, "--apart", "--cases", case, "--seconds", str(seconds)]
    command += ["--runs", str(arguments.runs), "--mode", arguments.mode] + (["--ways", arguments.ways] if arguments.ways else [])
    child = subprocess.Popen(command)
    try:
        if child.wait(timeout=seconds + LEAST_SECONDS):
            report({"case": case, "error": f"the process ended with {child.returncode}"})
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        report({"case": case, "error": f"stopped after {seconds:.0f} s"})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES), help="comma-separated")
    parser.add_argument("--ways", help="comma-separated: eager, compile, eager+cudagraphs, compile+cudagraphs")
    parser.add_argument("--runs", type=int, default=60, help="timed steps of each way")
    parser.add_argument("--mode", default="default", help="torch.compile's; max-autotune-no-cudagraphs takes minutes")
    parser.add_argument("--seconds", type=float, default=340, help="all cases together end after about so many")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--apart", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = True
    if arguments.check:
        from gpu_check import check

        sys.exit(0 if check(report) else 1)
    cases = arguments.cases.split(",")
    unknown = sorted(set(cases) - set(CASES))
    if unknown:
        parser.error(f"no case {unknown[0]!r}; there are {', '.join(CASES)}")
    if arguments.apart:
        Session(arguments).run(cases[0])
        return
    deadline = time.monotonic() + arguments.seconds
    for index, case in enumerate(cases):
        left = deadline - time.monotonic()
        # A case may use what it needs as long as each case after it keeps a minimum.
        mine = left - 2 * LEAST_SECONDS * (len(cases) - index - 1) - LEAST_SECONDS
        if mine < LEAST_SECONDS:
            report({"case": case, "error": "not started: the time is used up"})
        else:
            run_apart(case, arguments, mine)


if __name__ == "__main__":
    main()
