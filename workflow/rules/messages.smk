# In:  the command line, and the logs of what failed
# Out: on the terminal, as the last lines: what a run found, or in one line what went wrong
import atexit
import contextlib
import difflib
import io
import re

from snakemake.cli import parse_args


def unknown_target(target):
    """What to say of a target that nothing makes; Snakemake's own words name none that there is."""
    for preset in sorted(CONFIG.parent.glob("presets/*.yaml")):
        folder = yaml.safe_load(preset.read_text(encoding="utf-8")).get("results", RESULTS)
        if folder != RESULTS and target.startswith(f"{folder}/"):
            return f"{target} is a result of presets/{preset.name}: add --configfile presets/{preset.name}"
    known = [*map(str, rules.all.input), *simulations("accuracy.txt"), *simulations("evaluation.json")]
    known += [rule.name for rule in workflow.rules if not rule.has_wildcards()]
    close = difflib.get_close_matches(target, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"results of this configuration are {known[0]} and so on"
    return f"nothing makes {target}: {hint}"


def check_targets():
    """Look at the targets of the command line before Snakemake does."""
    with contextlib.redirect_stderr(io.StringIO()):  # it says again which profile is used
        targets = parse_args(sys.argv[1:])[1].targets
    # as Snakemake does: ./results/x is results/x
    for target in (one if os.path.isabs(one) else os.path.relpath(one) for one in targets):
        made = any(target == rule.name or rule.is_producer(target) for rule in workflow.rules)
        if not made and not Path(target).exists():
            raise Refused(unknown_target(target))


def what_failed(logs):
    """The last line of the log of each job that failed, such as ``lenet/seed0/k1/phase1: error: ...``."""
    text = "".join(Path(log).read_text(encoding="utf-8", errors="replace") for log in logs)
    for path in dict.fromkeys(re.findall(r"^    log: (.+?) \(check log file", text, re.MULTILINE)):
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines() if Path(path).is_file() else []
        job = re.sub(r"(^|.*/)logs/|\.log$", "", path)
        last = re.sub(r"^[-0-9]+ [:0-9]+  ", "", lines[-1]) if lines else ""
        killed = not re.search("error|stopped by", last, re.IGNORECASE)
        yield f"{job}: {'ended without a word, for want of memory perhaps, after: ' if killed else ''}{last or 'nothing'}"


def say_last(lines):
    """Print when everything else has been said."""
    text = "".join(f"{line}\n" for line in ["", *lines])
    atexit.register(lambda: (sys.stderr.write(text), sys.stderr.flush()))


# This process is Snakemake as its user called it, not a job, and not another program. Of a workflow that uses this one as
# a module the rules are not all read yet.
if CALLED and workflow.is_main_process and Path(sys.argv[0]).stem in ("snakemake", "__main__"):
    check_targets()


onsuccess:
    if any(job.rule.name == "table" for job in workflow.dag.jobs):
        say_last(Path(f"{RESULTS}/summary.md").read_text(encoding="utf-8").splitlines())


onerror:
    say_last(what_failed([log] if isinstance(log, str) else log))
