"""Several processes make what one makes: the same steps, the same samples, the same scores."""

import itertools
import multiprocessing
import os
import shutil
import socket
import tempfile
import time

import numpy as np
import pytest
import torch
from configs import changed
from records import forget
from test_trainers import CONFIGS, CPU, pictures

from surrodiff.errors import UserError
from surrodiff.kinds.ddpm import DiffusionTrainer
from surrodiff.planning.measures import RefinementConfig
from surrodiff.planning.runs import Run
from surrodiff.runtime import devices, distributed
from surrodiff.scoring import features
from surrodiff.stages import reference, sample, train
from surrodiff.store import tensors
from surrodiff.store.runs import work_folder


def keep_store(listening: socket.socket):
    """Be where the processes of a job meet, on a socket, until killed."""
    port, descriptor = listening.getsockname()[1], listening.detach()
    store = torch.distributed.TCPStore(
        "127.0.0.1", port, is_master=True, wait_for_workers=False, master_listen_fd=descriptor
    )
    while store:
        time.sleep(60)


@pytest.fixture
def begun(tmp_path_factory):
    """Begin to call a function in several processes of one job; calling what this gives ends it, and returns what the
    function returned in each."""

    def begin(world: int, function):
        folder = tmp_path_factory.mktemp("returned")
        # As torchrun does, so that any process may end first; in a process of its own, because a process that is
        # forked while the store's thread holds a lock waits for it for ever.
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        store = multiprocessing.get_context("fork").Process(target=keep_store, args=(listening,), daemon=True)
        store.start()
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_USE_AGENT_STORE": True}

        def one(rank: int):
            where = {**meeting, "WORLD_SIZE": world, "RANK": rank}
            os.environ.update({key: str(value) for key, value in where.items()})
            with distributed.joined("cpu"):
                torch.save(function(), folder / f"{rank}.pt")

        # Forked, since a new process would import PyTorch again for seconds.
        processes = torch.multiprocessing.start_processes(one, nprocs=world, start_method="fork", join=False)

        def end() -> list:
            try:
                until = time.monotonic() + 300
                while not processes.join(timeout=1):
                    assert time.monotonic() < until, "the processes of a job wait for each other"
            finally:
                for process in processes.processes:
                    process.kill()
                store.kill()
                store.join()
                listening.close()
            return [torch.load(folder / f"{rank}.pt") for rank in range(world)]

        return end

    return begin


@pytest.fixture
def ranks(begun):
    """Call a function in several processes of one job; returns what it returns in each."""
    return lambda world, function: begun(world, function)()


def test_without_torchrun_there_is_one_process_and_nothing_to_meet():
    rows = torch.arange(5)
    with distributed.joined("cuda"):
        assert (distributed.rank(), distributed.world()) == (0, 1)
        assert distributed.local_rows(rows).equal(rows)
        assert distributed.gather_rows(rows, 5) is rows
        assert distributed.broadcast("a") == "a"
        assert distributed.all_gather("a") == ["a"]


@pytest.mark.parametrize("count", [3, 8])
def test_shares_are_all_of_the_rows_in_order_and_nearly_equal(ranks, count):
    values = torch.rand(count, generator=torch.Generator().manual_seed(0)) - 0.5

    def shared():
        share = distributed.local_rows(values)
        return share, distributed.gather_rows(share, count), distributed.broadcast(distributed.rank())

    by_rank = ranks(3, shared)
    assert torch.cat([share for share, _, _ in by_rank]).equal(values)
    assert {len(share) - count // 3 for share, _, _ in by_rank} <= {0, 1}
    assert all(gathered.equal(values) for _, gathered, _ in by_rank)
    assert [first for _, _, first in by_rank] == [0, 0, 0]


@pytest.mark.parametrize("name", ["Default", "IWDiff", "ImportanceSamplingPlus2", "Hybrid"])
@pytest.mark.parametrize(("world", "micro_batch"), [(2, None), (3, 1)])
def test_processes_take_the_steps_of_one_with_the_same_batch(ranks, execution, name, world, micro_batch):
    """With dropout; 8 images among 3 processes are uneven shares, and T = 2 fills importance sampling's history."""
    few = {"T": 2, "beta_1": 0.1, "beta_T": 0.9}
    config = changed(CONFIGS[name], model={"training": {"grad_clip": 1e9}, "diffusion": few})
    assert config.model.network.dropout > 0

    def steps(micro_batch):
        how = execution.model_copy(update={"micro_batch": micro_batch})
        trainer = DiffusionTrainer(config, *pictures(20), CPU, how)
        metrics, gradients = [], []
        for step in range(1, 5):
            metrics.append(torch.stack([*trainer.step(step).values(), *trainer.log(step).values()]))
            gradients.append(torch.cat([p.grad.flatten() for p in trainer.network.parameters()]))
        return {"metrics": torch.stack(metrics), "gradients": torch.stack(gradients), **trainer.state()}

    alone, several = steps(None), ranks(world, lambda: steps(micro_batch))
    for other in several[1:]:
        assert all(other[key].equal(value) for key, value in several[0].items())
    assert torch.allclose(several[0]["gradients"][0], alone["gradients"][0], rtol=1e-4, atol=1e-6)
    for key, value in several[0].items():
        assert torch.allclose(value, alone[key], rtol=1e-3, atol=5e-4), key
    if name == "ImportanceSamplingPlus2":
        assert (alone["timesteps.counts"] >= 10).all()


@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 3)])
def test_a_training_goes_on_with_another_number_of_processes(
    ranks, own_results, run_named, monkeypatch, first, then, make
):
    run = run_named("models", "Default")
    folder = own_results / "models" / run.id
    uninterrupted = shutil.move(folder, own_results / "whole")
    forget(own_results, "models", run.id)

    def until_step_4():
        step = DiffusionTrainer.step

        def interrupted(trainer, number):
            if number > 4:
                raise KeyboardInterrupt
            return step(trainer, number)

        monkeypatch.setattr(DiffusionTrainer, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make(run, own_results)

    ranks(first, until_step_4)
    _, metadata = tensors.load(work_folder(own_results, "models", run.id) / train.CHECKPOINT)
    assert metadata["step"] == "4"
    records = ranks(then, lambda: make(run, own_results))
    assert records[0]["step"] == 6
    for file in (train.CHECKPOINT, "weights-2.safetensors", "weights-6.safetensors"):
        expected, resumed = state_of(uninterrupted / file), state_of(folder / file)
        assert expected.keys() == resumed.keys()
        for key, value in expected.items():
            assert torch.allclose(resumed[key], value, atol=2e-4), f"{file}: {key}"
    assert [line.split(",")[0] for line in (folder / "losses.csv").read_text().splitlines()] == ["step", "2", "4", "6"]


def test_all_processes_end_with_one_message_where_features_are_not_finite(ranks):
    """The process that did not compute them too: it would wait for the other's next batch."""
    images = torch.zeros(24, 1, 8, 8, dtype=torch.uint8)
    images[13] = 255

    def outputs(pixels):
        vectors = pixels.flatten(1)
        return torch.where(vectors > 0, torch.nan, vectors), vectors

    network = features.FeatureNetwork("fake", "c0ffee" * 10, 8, None, (-1.0, 1.0), outputs)

    def message():
        with pytest.raises(UserError, match="NaN or infinite for 1") as caught:
            list(features.extract_all(network, images, CPU, 4, "Default_6-01234567"))
        return str(caught.value)

    first, *others = ranks(3, message)
    assert first.startswith("fake features of Default_6-01234567 (24 images): NaN or infinite for 1 of the images 12")
    assert others == [first, first]


def state_of(file) -> dict[str, torch.Tensor]:
    """The tensors of a file, of a checkpoint's log without its last column, the seconds."""
    state, _ = tensors.load(file)
    if train.LOG_ROWS in state:
        state[train.LOG_ROWS][:, -1] = 0
    return state


def without(record: dict) -> dict:
    """A record without what differs from attempt to attempt."""
    times = {"provenance", "sampled_by", "files"}
    return {key: value for key, value in record.items() if "seconds" not in key and key not in times}


@pytest.mark.parametrize("world", [2, 3])
def test_samples_and_scores_are_those_of_one_process(ranks, own_results, run_named, world, make):
    """To the bit: batches hold the same rows. 64 images in batches of 24 are one each for three processes."""
    runs = [
        run_named(*name) for name in (("samples", "Default_6"), ("scores", "Default_6"), ("likelihoods", "Default"))
    ]

    def made() -> list[dict]:
        for run in runs:
            forget(own_results, run.stage)
        return [make(run, own_results, sampling_batch=24) for run in runs]

    alone = made()
    images, _ = sample.load(own_results, runs[0].id)
    for run in runs:
        forget(own_results, run.stage)
    several = ranks(world, lambda: [make(run, own_results, sampling_batch=24) for run in runs])
    assert np.array_equal(sample.load(own_results, runs[0].id)[0], images)
    assert [without(record) for record in several[0]] == [without(record) for record in alone]
    names = {file.name for file in (own_results / "samples" / runs[0].id).iterdir()}
    assert names == {"config.json", "record.json", "done.json", "samples.npy", "grid.png"}


def test_sampling_goes_on_with_another_number_of_processes(ranks, own_results, run_named, monkeypatch, make):
    run = run_named("samples", "Default_6")
    images, _ = sample.load(own_results, run.id)
    forget(own_results, "samples")
    add = sample.PartFiles.add

    def interrupted(parts, *rows):
        if rows and distributed.rank() != 1:
            add(parts, *rows)
        else:
            raise KeyboardInterrupt

    def two_of_three():
        monkeypatch.setattr(sample.PartFiles, "add", interrupted)
        monkeypatch.setattr(sample.PartFiles, "collected", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make(run, own_results, sampling_batch=10)

    ranks(3, two_of_three)
    record, _ = ranks(2, lambda: make(run, own_results, sampling_batch=10))
    assert record["sampled_now"] == 20  # of seven batches the second process of three had two
    assert np.abs(sample.load(own_results, run.id)[0].astype(int) - images).max() <= 1


def test_the_reference_is_that_of_one_process(ranks, own_results, run_named, make):
    run = run_named("references", "classifier")
    alone, _ = tensors.load(own_results / "references" / run.id / reference.STATISTICS)
    forget(own_results, "references")
    ranks(2, lambda: make(run, own_results))
    several, _ = tensors.load(own_results / "references" / run.id / reference.STATISTICS)
    assert all(several[key].equal(value) for key, value in alone.items())


def test_what_cannot_be_split_is_made_by_the_first_process_alone(ranks, own_results, run_named, make):
    runs = [run_named("models", name) for name in ("SNGAN", "classifier")]
    alone = [state_of(own_results / "models" / run.id / train.CHECKPOINT) for run in runs]
    forget(own_results, "models")
    ranks(2, lambda: [make(run, own_results) for run in runs])
    for run, expected in zip(runs, alone, strict=True):
        state = state_of(own_results / "models" / run.id / train.CHECKPOINT)
        assert all(state[key].equal(value) for key, value in expected.items())


def test_more_processes_than_images_of_a_batch_are_refused(ranks, own_results, run_named, make):
    forget(own_results, "models", run_named("models", "Default").id)

    def refused() -> str:
        with pytest.raises(UserError) as caught:
            make(run_named("models", "Default"), own_results)
        return str(caught.value)

    assert set(ranks(9, refused)) == {"training.batch_size: 8 images are too few for 9 processes"}


def test_jobs_take_their_devices_together_and_in_turn(begun, tmp_path, monkeypatch):
    """Two jobs of two processes, two devices: neither waits for ever with half of what it needs."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("SURRODIFF_DEVICES", "cpu:0,cpu:1")

    def claim():
        with devices.claimed(CPU) as device:
            began = time.monotonic()
            time.sleep(0.3)
            return str(device), began, time.monotonic()

    jobs = [begun(2, claim) for _ in range(3)]
    held = [job() for job in jobs]
    assert [[name for name, _, _ in job] for job in held] == [["cpu:0", "cpu:1"]] * 3
    times = sorted((began, end) for job in held for name, began, end in job if name == "cpu:0")
    assert all(end <= began for (_, end), (began, _) in itertools.pairwise(times))


def test_more_processes_than_devices_are_refused(ranks, monkeypatch):
    monkeypatch.setenv("SURRODIFF_DEVICES", "cpu:0,cpu:1")

    def refused() -> str:
        with pytest.raises(UserError) as caught, devices.claimed(CPU):
            pass
        return str(caught.value)

    assert set(ranks(3, refused)) == {"3 processes need as many devices; there are 2: cpu:0, cpu:1"}


def test_a_refinement_is_that_of_one_process(ranks, own_results, run_named, make):
    samples = [run_named("samples", name) for name in ("SNGAN_t0", "SNGAN_t2")]
    for run in samples:
        make(run, own_results)
    alone, refined = (run.id for run in samples)
    reference, data = run_named("references", "classifier").id, run_named("data", "digits").id
    run = Run("SNGAN_t2", RefinementConfig(surrogate=alone, refined=refined, reference=reference, data=data))
    record = make(run, own_results, sampling_batch=24)
    forget(own_results, run.stage)
    several = ranks(2, lambda: make(run, own_results, sampling_batch=24))
    assert [without(one) for one in several if one] == [without(record)]
