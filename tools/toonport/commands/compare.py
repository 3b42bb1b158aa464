"""toonport compare: run the reference and the port side by side and judge every layer."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from multiprocessing import get_all_start_methods
from pathlib import Path

from convert.devices import CPU, GPU
from convert.errors import InputError, guarded
from convert.registry import family_named
from ms_models.environment import choose_device
from parity_tests.harness.families import compare_family, not_asked_for, not_measured
from parity_tests.harness.judge import Outcome, Verdict, worst
from parity_tests.harness.judging_captures import compare_captures
from parity_tests.harness.onnx.runtimes import RUNTIMES
from parity_tests.harness.replay.write import Replay, write_case
from parity_tests.harness.report.console import row_lines, summary_lines, tree_lines
from parity_tests.harness.report.data import report_data
from parity_tests.harness.report.html import difference_pictures, write_html
from parity_tests.harness.report.junit import write_junit
from parity_tests.harness.report.saved import changes, judge_again, load_report
from parity_tests.harness.request import DTYPES, CompareOptions, modes_named
from parity_tests.harness.run import Comparison, compare
from parity_tests.harness.stages import MODES, QUICK_LEAVES_OUT, QUICK_MODES
from toonport.cluster import ADDRESS_HELP, HERE, spread
from toonport.commands.options import Subparsers, add_command, add_option, add_own_pair, number
from toonport.commands.ui import out, print_json, print_table, spinner
from toonport.environments import environment_differences, load_environment
from toonport.exit_codes import ExitCode

EPILOG = """examples:
  toonport compare photo2cartoon --weights photo2cartoon_weights.pt
  toonport compare photo2cartoon --weights photo2cartoon_weights.pt --ported photo2cartoon.ckpt
  toonport compare photo2cartoon --part genA2B --json report.json --html report.html
  toonport compare photo2cartoon --weights photo2cartoon_weights.pt --part genA2B --mode onnx --onnx net.onnx
  toonport compare photo2cartoon --mode train --steps 3
  toonport compare cyclegan --part D_A --mode onnx --runtime openvino     in another runtime
  toonport compare yesterday.json today.json        what changed
  toonport compare report.json                      judge it again under the present tolerances
  toonport compare run_a/ run_b/                     runs that toonport.capture wrote, on any two machines
  toonport compare run_a/ --mindspore mynet_ms.py:Net  a captured reference (layers=True), where there is no PyTorch
  toonport compare --environment a.json b.json      what two machines differ in, see toonport doctor
  toonport compare --torch mynet.py:Net --mindspore mynet_ms.py:Net --inputs 3x256x256 --weights my.pt
Without --weights, seeded weights in the released configuration are used.
Exit codes: 0 equal · 1 different · 2 cannot be compared · 4 cannot tell (too much could not be judged)."""
EXIT_CODES = {
    Outcome.EQUAL: ExitCode.DONE,
    Outcome.DIFFERENT: ExitCode.DIFFERENT,
    Outcome.CANNOT_TELL: ExitCode.CANNOT_TELL,
}
BOTH_RUN = "where both networks run, neither of captures nor of saved reports"
NETWORKS_ALONE = ("training steps: not asked for", "ONNX Runtime: not asked for")
BRIEF_ROWS = 12
PIECE = 5 * 2**30  # bytes that a piece of the largest comparison may need


def add_parser(subparsers: Subparsers) -> None:
    """Register the subcommand."""
    text = "judge the MindSpore port against the PyTorch reference, layer by layer"
    parser = add_command(subparsers, "compare", run, text, EPILOG)
    add_option(parser, "FAMILY", nargs="?", help="see toonport list; or a saved report (.json)")
    parser.add_argument("other", metavar="B.json", nargs="?", help="another saved report: show what changed")
    add_own_pair(parser)
    parser.add_argument(
        "--inputs", metavar="IN", help="of your own networks: shapes such as 3x256x256, .npy, .npz or FILE.py:NAME"
    )
    parser.add_argument("--key", help="dictionary or prefix of --weights to take (your own networks)")
    add_option(parser, "--part", default="all", help="one network (default: all in the file)")
    add_option(parser, "--weights", help="checkpoint for both sides; any format")
    parser.add_argument("--ported", metavar="FILE", help="another checkpoint for the MindSpore side")
    text = "judge this exported file (of the format that --runtime takes), not one made on the spot"
    parser.add_argument("--onnx", type=Path, metavar="FILE", help=text)
    text = f"what runs the exported file: {', '.join(RUNTIMES)}, or FILE.py:run, a function run(path, inputs)"
    add_option(parser, "--runtime", help=f"{text} (default: onnxruntime)")
    parser.add_argument("--mode", default="all", help="weights, isolated, gradients, accumulated, train, onnx; or all")
    text = "in half a minute: layers alone and whole networks on small pictures; the report says what is left out"
    parser.add_argument("--quick", action="store_true", help=text)
    parser.add_argument("--steps", type=number, default=3, help="training steps to compare (mode train; default: 3)")
    parser.add_argument("--compiled", action="store_true", help="run all training steps as graphs, not the first alone")
    parser.add_argument(
        "--input", metavar="IMG", help="a picture for the whole run, in its own shape (default: seeded)"
    )
    text = "side of the picture for the whole run, or height and width (default: as released)"
    add_option(parser, "--size", type=_size, metavar="N|HxW", help=text)
    add_option(parser, "--seed", help="seed of the picture and of seeded weights")
    parser.add_argument(
        "--dtype", choices=DTYPES, default="fp32", help="precision of both sides (fp64: where the port has kernels)"
    )
    add_option(parser, "--device", help=f"device of the port and of ONNX Runtime (default: {CPU})")
    text = "device of the reference; the float64 truth stays on the CPU (default: as --device, where PyTorch knows it)"
    parser.add_argument("--reference-device", choices=(CPU, GPU), help=text)
    text = "let the devices multiply in TF32, and grant its noise (default: float32 on every side)"
    parser.add_argument("--tf32", action="store_true", help=text)
    parser.add_argument(
        "--captures", type=Path, metavar="DIR", help="save every tensor of both sides; the reference's are used again"
    )
    parser.add_argument("--reuse-port", action="store_true", help="use the port's captures again too")
    text = "write the smallest case that still differs, with a script for either framework"
    parser.add_argument("--replay", type=Path, metavar="DIR", help=text)
    text = "pieces of work at a time, each in a process of its own (default: by cores and memory; 1: this process)"
    parser.add_argument("--jobs", type=number, metavar="N", help=text)
    parser.add_argument("--ray", metavar="ADDRESS", nargs="?", const=HERE, help=ADDRESS_HELP)
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write the report as JUnit XML")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the report as one offline page")
    parser.add_argument(
        "--environment", action="store_true", help="the two files are of toonport doctor --json: show what differs"
    )
    parser.add_argument("--brief", action="store_true", help="print only the outcome and what to look at first")
    parser.add_argument("--rows", action="store_true", help="print every tensor with all its numbers")


def _size(text: str) -> int | tuple[int, int]:
    """Return "256" or "192x256" as a side, or as height and width."""
    sides = [number(side) for side in text.split("x")]
    if len(sides) > 2:
        raise argparse.ArgumentTypeError(f"{text} is neither N nor HxW")
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def run(args: argparse.Namespace) -> int:
    """Compare, print, write the reports; the exit code says how it ended, see `EXIT_CODES`."""
    folder = bool(args.family) and Path(args.family).is_dir()
    _require_heeded(args, folder)
    return _asked(args, folder)(args)


def _require_heeded(args: argparse.Namespace, folder: bool) -> None:
    """Raise InputError where an option would not be heeded; `folder`: the first argument is one."""
    released = not any((args.onnx, args.input, args.size, args.compiled, folder))
    exported = args.runtime and not any((folder, args.quick, args.torch)) and "onnx" in modes_named(args.mode)
    both = not any((folder, str(args.family).endswith(".json"), args.environment))
    for options, asked, heeded, where in (
        ("--quick", args.quick, released, "its own small pictures: no --onnx, --input, --size, --compiled or captures"),
        ("--runtime", args.runtime, exported, "where an exported file of a family is judged (--mode onnx, or all)"),
        ("--ray", args.ray, both and not args.torch, "where networks of a family are compared"),
        ("--replay", args.replay, both, BOTH_RUN),
        ("--tf32, --reference-device", args.tf32 or args.reference_device, both, BOTH_RUN),
        ("--replay", args.replay, args.device == CPU, f"on the CPU, where its scripts run, not on {args.device}"),
    ):
        if asked and not heeded:
            raise InputError(f"{options}: only {where}")
    if args.replay and args.replay.exists() and not args.replay.is_dir():
        raise InputError(f"--replay {args.replay}: is a file; a folder is needed")


def _asked(args: argparse.Namespace, folder: bool) -> Callable[[argparse.Namespace], int]:
    """Return what does what is asked for."""
    if args.environment:
        return _environments
    if args.torch or args.mindspore:
        return _with_capture if folder and not args.torch else _own
    if folder and args.other and Path(args.other).is_dir():
        return _captured
    if not args.family:
        raise InputError("which family, see toonport list; or your own networks: --torch, --mindspore and --inputs")
    if args.family.endswith(".json"):
        return _saved
    if args.other:
        raise InputError("two arguments are only for two saved reports (.json)")
    return _fresh


def _own(args: argparse.Namespace) -> int:
    """Compare a user's own two networks."""
    if not (args.torch and args.mindspore and args.inputs):
        raise InputError("your own networks: --torch, --mindspore and --inputs are needed together")
    if args.family:
        raise InputError(f"{args.family}: a family or your own networks, not both")
    if any((args.onnx, args.input, args.size, args.reuse_port, args.compiled, args.part != "all")):
        raise InputError("--onnx, --input, --size, --reuse-port, --compiled and --part are for families")
    from toonport.own_pair import inputs_of, load, pair_from, read_weights

    modes = _modes(args, MODES)
    choose_device(args.device)
    pair = pair_from(args.torch, args.mindspore, args.kwargs, args.map, args.seed)
    with spinner(f"compare {pair.name}") as say:
        module, cell, plan = pair.build()
        weights = read_weights(pair, plan, args.weights, args.key) if args.weights else None
        load(module, cell, plan, weights, read_weights(pair, plan, args.ported) if args.ported else None)
        comparison = compare(
            module.eval(),
            cell,
            inputs_of(args.inputs, args.seed),
            modes,
            name=pair.name,
            dtype=DTYPES[args.dtype],
            captures=args.captures,
            names=pair.layers,
            say=say,
            quick=args.quick,
            write_case=partial(write_case, Replay(args.replay, *pair.builds())) if args.replay else None,
            pictures=bool(args.html),
            reference_device=args.reference_device,
            tf32=args.tf32,
        )
    return _report(args, [comparison], [*NETWORKS_ALONE, *(QUICK_LEAVES_OUT if args.quick else ())])


def _modes(args: argparse.Namespace, every: tuple[str, ...]) -> tuple[str, ...]:
    """The modes that are asked for; "all" is every one, or those of a quick comparison."""
    if args.mode == "all":
        return QUICK_MODES if args.quick else every
    modes = modes_named(args.mode)
    if args.quick and (slow := set(modes) - set(QUICK_MODES)):
        raise InputError(f"--quick: without {', '.join(sorted(slow))}; its modes: {', '.join(QUICK_MODES)}")
    return modes


def _fresh(args: argparse.Namespace) -> int:
    if args.reuse_port and not args.captures:
        raise InputError("--reuse-port needs --captures: the folder with what was captured before")
    if args.onnx and not args.weights:
        raise InputError("--onnx needs --weights: the checkpoint that the file was made from")
    options = _options(args)
    jobs = args.jobs or (jobs_here(args.device) if args.ray == HERE else None)
    elsewhere = partial(spread, jobs=jobs, address=args.ray, gpu=args.device == GPU) if args.ray else None
    with spinner(f"compare {options.family}") as say:
        comparisons = compare_family(options, say, elsewhere)
    for reason in not_measured(options):
        out.print(f"left out: {reason}")
    return _report(args, comparisons, not_asked_for(options))


def _options(args: argparse.Namespace) -> CompareOptions:
    """Where every mode is asked for, ONNX Runtime may be left out with a reason."""
    from toonport.own_pair import named_runtime
    from toonport.photo.picture import network_picture

    runtime = named_runtime(args.runtime or "onnxruntime")
    return CompareOptions(
        family=family_named(args.family).name,
        part=args.part,
        weights=args.weights,
        ported=args.ported,
        modes=_modes(args, modes_named("all")),
        quick=args.quick,
        steps=args.steps,
        compiled=args.compiled,
        picture=partial(network_picture, Path(args.input)) if args.input else None,
        size=args.size,
        seed=args.seed,
        dtype=DTYPES[args.dtype],
        device=args.device,
        reference_device=args.reference_device,
        tf32=args.tf32,
        captures=args.captures,
        reuse_port=args.reuse_port,
        jobs=1 if args.ray else args.jobs or jobs_here(args.device),
        replay=args.replay,
        pictures=bool(args.html),
        onnx=args.onnx,
        runtime=runtime,
        onnx_required=args.mode != "all" or args.onnx is not None or args.runtime is not None,
    )


def jobs_here(device: str) -> int:
    """Return how many pieces of work run at a time: as many as there are cores and memory for; on a GPU one."""
    from convert.cores import cores
    from toonport.train.memory import free_bytes

    if device != CPU or "forkserver" not in get_all_start_methods():
        return 1
    return max(1, min(cores(), free_bytes() // PIECE))


def _captured(args: argparse.Namespace) -> int:
    """Judge two captured runs."""
    from toonport.own_pair import layers_from

    layers = layers_from(Path(args.map)) if args.map else None
    comparison = compare_captures(Path(args.family), Path(args.other), layers)
    return _report(args, [comparison], ["layers alone and gradients: these are captured runs of whole networks"])


def _with_capture(args: argparse.Namespace) -> int:
    """Compare a port with a captured reference."""
    from toonport.own_pair import compare_with_folder

    modes = MODES if args.mode == "all" else modes_named(args.mode)
    choose_device(args.device)
    weights = args.ported or args.weights, args.key
    with spinner(f"compare {args.mindspore}") as say:
        comparison = compare_with_folder(Path(args.family), args.mindspore, args.kwargs, args.map, weights, modes, say)
    return _report(args, [comparison], list(NETWORKS_ALONE))


def _environments(args: argparse.Namespace) -> int:
    """Show what two environments differ in."""
    if not (args.family and args.other):
        raise InputError("--environment takes two files that toonport doctor --json has written")
    first, second = (load_environment(Path(path)) for path in (args.family, args.other))
    found = environment_differences(first, second)
    if found:
        print_table(["what", "name", "A", "B"], [[each.area, each.name, each.first, each.second] for each in found])
    out.print(f"{len(found)} differences between {args.family} and {args.other}" if found else "no difference")
    print_json(args.json, {"equal": not found, "differences": [asdict(each) for each in found]})
    return 1 if found else 0


def _saved(args: argparse.Namespace) -> int:
    """Judge a saved report again, or show what changed between two."""
    first = load_report(Path(args.family))
    if not args.other:
        with guarded(args.family, "not a saved report, or changed by hand"):
            again = judge_again(first)
        return _report(args, again, ["everything: the saved measurements were judged again"])
    second = load_report(Path(args.other))
    with guarded(f"{args.family}, {args.other}", "not saved reports, or changed by hand"):
        found, _ = changes(first, second), (first["verdict"], second["verdict"])
    out.print("\n".join(found) if found else "no verdict changed")
    out.print(f"{args.family}: {first['verdict']}; {args.other}: {second['verdict']}")
    print_json(args.json, {"verdicts": [first["verdict"], second["verdict"]], "changes": found})
    return 1 if found else 0


def _report(args: argparse.Namespace, comparisons: list[Comparison], not_run: list[str]) -> int:
    for comparison in comparisons:
        if not args.brief:
            for row in tree_lines(comparison, out.columns):
                out.print(row.text, style="bold red" if row.bad else None)
        _print_rows(comparison.verdicts if args.rows else comparison.blamed[:BRIEF_ROWS])
        out.print("\n".join(summary_lines(comparison)))
    if args.quick:
        out.print("\n".join(f"left out: {reason}" for reason in not_run))
    data = report_data(comparisons, args.device, not_run)
    print_json(args.json, data)
    if args.junit:
        write_junit(args.junit, data)
    if args.html:
        pictures = {each.name: difference_pictures(*each.pictures) for each in comparisons if each.pictures}
        write_html(args.html, data, pictures)
    return EXIT_CODES[worst(comparison.outcome for comparison in comparisons)]


def _print_rows(verdicts: Sequence[Verdict]) -> None:
    """Print tensors with all their numbers."""
    for row in row_lines(verdicts, out.columns):
        out.print(row.text, style="bold red" if row.bad else None)
