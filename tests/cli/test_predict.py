"""`uvea predict` on the command line: options as they arrive, and failures as they are shown."""

from pathlib import Path

from uvea.errors import ImageError, ShapeError
from uvea.workflows.pipeline import PartlyDoneError


def test_engine_int8_and_resume_arrive(run, workflow):
    """With the usual values where they are not given."""
    calls = workflow("predict", predict_files=[])
    run("predict", "m", "a.tif", "--out", "o", "--engine", "openvino", "--int8", "--resume")
    run("predict", "m", "a.tif", "--out", "o")
    first, second = calls
    assert (first["engine"], first["int8"], first["resume"]) == ("openvino", True, True)
    assert (second["engine"], second["int8"], second["resume"]) == ("auto", False, False)


def test_every_image_that_failed_is_listed_and_the_exit_code_is_2(run, workflow):
    """What was written is said on stdout, two lines for each failure and for the sum on stderr."""
    error = PartlyDoneError(
        "2 of 5 images could not be predicted; the others are done",
        hint="mend them",
        written=[Path("o/a.png")] * 3,
        failures=[ImageError("b.png is empty", hint="copy it again"), ImageError("c.png is cut", hint="likewise")],
        names=["b", "c"],
    )
    workflow("predict", predict_files=error)
    result = run("predict", "m", "a.tif", "--out", "o")
    assert result.exit_code == 2
    assert result.stdout == "3 files in o\n"
    assert result.stderr.splitlines() == [
        "b.png is empty",
        "  Try: copy it again",
        "c.png is cut",
        "  Try: likewise",
        "2 of 5 images could not be predicted; the others are done",
        "  Try: mend them",
    ]


def test_images_that_failed_for_one_reason_are_one_error_that_names_them(run, workflow):
    """Of twelve that failed alike, one is explained and eleven are named; one that failed otherwise has its own."""
    alike = [ShapeError(f"c{number}.tif has 1 channel(s)", hint="name the axes") for number in range(12)]
    failures = [*alike[:5], ImageError("d.tif is cut", hint="copy it again"), *alike[5:]]
    names = [failure.problem.partition(".")[0] for failure in failures]
    workflow("predict", predict_files=PartlyDoneError("13", hint="mend", written=[], failures=failures, names=names))
    named = ", ".join(f"'c{number}'" for number in range(1, 12))
    assert run("predict", "m", "a.tif", "--out", "o").stderr.splitlines()[:4] == [
        f"c0.tif has 1 channel(s); and 11 more like it: {named}",
        "  Try: name the axes",
        "d.tif is cut",
        "  Try: copy it again",
    ]


def test_what_is_done_behind_the_network_arrives(run, workflow):
    """Numbers, classes by name, and nothing of what was not said."""
    calls = workflow("predict", predict_files=[], decode_files=[])
    run(
        "predict", "m", "a.tif", "--out", "o", "--largest-component", "liver, spleen", "--min-size", "liver=20,spleen=5"
    )
    run("predict", "m", "a.tif", "--out", "o", "--largest-component", "none", "--fill-holes", "0")
    run("predict", "m", "a.tif", "--out", "o", "--keep-probabilities", "--outlines", "imagej,geojson")
    run("decode", "m", "o", "--out", "p", "--gap", "0.1", "--foreground", "0.4", "--min-size", "30", "--least", "0.3")
    assert [call["after"] for call in calls] == [
        {"largest": ("liver", "spleen"), "min_size": {"liver": 20, "spleen": 5}},
        {"largest": (), "fill_holes": 0},
        {},
        {"gap": 0.1, "foreground": 0.4, "min_size": 30, "least": 0.3},
    ]
    assert (calls[2]["keep_probabilities"], calls[2]["outlines"]) == (True, ("imagej", "geojson"))


def test_a_size_that_is_none_is_refused(run, workflow):
    """With both ways to say it."""
    workflow("predict", predict_files=[])
    result = run("predict", "m", "a.tif", "--out", "o", "--min-size", "liver=much")
    assert result.exit_code == 2
    assert "'liver=much', which is no number of pixels" in result.stderr and "--min-size 20" in result.stderr


def test_sizes_by_class_are_offered_where_there_are_classes(run, workflow):
    """`decode` has objects alone."""
    workflow("predict", predict_files=[], decode_files=[])
    said = {
        command: run(command, "m", "a.tif", "--out", "o", "--min-size", "20.5").stderr
        for command in ("predict", "decode")
    }
    assert said["predict"].endswith("Try: --min-size 20, or of classes --min-size liver=20,tumour=5\n")
    assert said["decode"].endswith("Try: --min-size 20\n")
