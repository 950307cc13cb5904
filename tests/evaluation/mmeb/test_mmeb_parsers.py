"""Every parser over its layout: queries, candidates, labels, wording, and what is missing."""

import shutil
from pathlib import Path

import pytest
from fixtures.mmeb_layouts import Layout

from smart_retrieval.errors import DatasetError, MediaError
from smart_retrieval.evaluation.mmeb.parsers import parse, shortened_page_file, without_letter
from smart_retrieval.evaluation.mmeb.prompts import PROMPTS, get_prompts
from smart_retrieval.evaluation.mmeb.tasks import all_tasks, choose
from smart_retrieval.pictures.images import ImageFile

QWEN, V2V = PROMPTS["qwen"], PROMPTS["v2v"]
TARGET = "Represent the user's input."


def read(root, name, prompts=QWEN):
    (task,) = choose([name])
    return parse(task, root, prompts)


def files(item):
    return [Path(image.path).name for image in item.images]


@pytest.mark.parametrize("prompts", PROMPTS.values(), ids=PROMPTS)
def test_all_78_are_complete_and_their_media_open(mmeb_root, prompts):
    opened = set()
    for task in all_tasks():
        data = parse(task, mmeb_root, prompts)
        assert not data.missing, (task.name, data.missing)
        assert len(data.cases) > 1, task.name
        assert len(data.names) == len(set(data.names)) == len(data.items), task.name
        for case in data.cases:
            assert (case.candidates is None) == (task.scope == "global")
            assert set(case.labels) <= set(data.names)
        for item in [*(case.item for case in data.cases), *data.items]:
            for image in item.images:
                assert isinstance(image, ImageFile)
                if image.path.parent not in opened:
                    assert image.load().size == (64, 64)
                    opened.add(image.path.parent)
            if item.video is not None and task.name not in opened:
                assert 1 <= len(item.video.frames(8).images) <= 3
                opened.add(task.name)


def test_image_classification(mmeb_root):
    data = read(mmeb_root, "ImageNet-1K")
    first = data.cases[0]
    assert data.names == ["class 0", "class 1", "class 2", "class 3"]
    assert first.labels == ("class 0",)
    # Each once, though one stands there twice; and in the order of the row.
    assert first.candidates.tolist() == [0, 1, 2, 3]
    assert data.cases[1].candidates.tolist() == [1, 2, 3, 0]
    assert (first.item.text, first.item.instruction) == ("", "Represent the given image for classification")
    assert files(first.item) == ["img_0.jpg"]
    assert (data.items[1].text, data.items[1].instruction) == ("class 1", TARGET)


def test_image_questions_in_both_wordings(mmeb_root):
    ours = read(mmeb_root, "OK-VQA").cases[1].item
    assert (ours.instruction, ours.text) == (
        "Represent the given image with the following question:",
        "what is number 1?",
    )
    theirs = read(mmeb_root, "OK-VQA", V2V)
    assert theirs.cases[1].item.text == "what is number 1?\n"
    assert (theirs.items[0].text, theirs.items[0].instruction) == ("class 0", None)
    bare = read(mmeb_root, "SUN397", V2V).cases[0].item
    assert (bare.text, bare.instruction) == ("Represent the given image for classification\n", None)


def test_text_to_image(mmeb_root):
    plain, captioned = read(mmeb_root, "MSCOCO_t2i"), read(mmeb_root, "WebQA")
    assert plain.names[:2] == ["MSCOCO_t2i/img_0.png", "MSCOCO_t2i/img_1.png"]
    assert plain.cases[0].labels == ("MSCOCO_t2i/img_0.png",)
    assert plain.cases[0].item.images == ()
    assert (plain.items[0].text, plain.items[0].instruction) == ("", TARGET)
    assert captioned.items[0].text == "caption of WebQA/img_0.png"
    # The archive was unpacked without moving its contents up.
    assert plain.items[0].images[0].path.parent == mmeb_root / "image-tasks/MMEB/MSCOCO_t2i"
    theirs = read(mmeb_root, "WebQA", V2V).items[0]
    assert (theirs.instruction, theirs.text) == ("Represent the given image.", "caption of WebQA/img_0.png\n")
    assert read(mmeb_root, "MSCOCO_t2i", V2V).items[0].text == "Represent the given image.\n"
    assert read(mmeb_root, "VisDial", V2V).cases[0].item.text == "scene 0\n\n"
    assert read(mmeb_root, "MSCOCO_t2i", V2V).cases[0].item.text == "scene 0\n"


def test_image_to_image_is_known_by_path_and_caption(mmeb_root):
    data = read(mmeb_root, "RefCOCO-Matching")
    assert data.names == [
        "RefCOCO-Matching/img_0.jpg:object 0",
        "RefCOCO-Matching/img_0.jpg:another",
        "RefCOCO-Matching/img_2.jpg:a third",
        "RefCOCO-Matching/img_1.jpg:object 1",
        "RefCOCO-Matching/img_1.jpg:another",
    ]
    assert [case.labels for case in data.cases] == [(data.names[0],), (data.names[3],)]
    assert data.items[1].text == '"another"'
    assert read(mmeb_root, "CIRR").names == ["CIRR/img_0.jpg:", "CIRR/img_1.jpg:", "CIRR/img_2.jpg:"]
    theirs = read(mmeb_root, "CIRR", V2V).items[0]
    assert (theirs.text, theirs.instruction) == ("", "Represent the given cropped image of the object")


def test_video_classification_ranks_all_classes(mmeb_root):
    data = read(mmeb_root, "K700")
    assert (len(data.names), data.cases[1].labels, data.notes) == (700, ("fly_tying",), [])
    item = data.cases[0].item
    assert item.instruction == "Recognize the category of the video content."
    assert (item.video.path, item.video.most) == (mmeb_root / "video-tasks/frames/video_cls/K700/clip_0", 64)
    assert read(mmeb_root, "K700", V2V).cases[0].item.video.most == 8


def test_unknown_classes_are_noted(tmp_path):
    (task,) = choose(["Breakfast"])
    layout = Layout(tmp_path)
    layout.parquet(task, [{"video_id": "a", "pos_text": "soup"}])
    layout.frames(layout.media(task) / "a", 0)
    data = parse(task, tmp_path, QWEN)
    assert (len(data.names), data.cases[0].labels) == (11, ("soup",))
    assert data.notes == ["1 labels are none of the task's 10 classes: 'soup'"]


def test_something_something_takes_the_first_thousand(tmp_path):
    (task,) = choose(["SmthSmthV2"])
    layout = Layout(tmp_path)
    rows = [{"video_id": number, "pos_text": "a", "neg_text": ["b", "a"]} for number in range(1003)]
    layout.parquet(task, rows)
    layout.media(task).mkdir(parents=True)
    data = parse(task, tmp_path, QWEN)
    assert (len(data.cases), len(data.missing.files)) == (1000, 1000)


def test_video_questions(mmeb_root):
    mvbench = read(mmeb_root, "MVBench")
    assert len(mvbench.cases) == 20
    item = mvbench.cases[0].item
    assert item.text == "What of episodic_reasoning?\nOptions:\n(A) left\n(B) right\n(C) none"
    assert item.video.path.parts[-2:] == ("episodic_reasoning", "000.mp4")
    assert item.instruction.endswith("Return only the exact text of your chosen answer.")
    assert read(mmeb_root, "MVBench", V2V).cases[0].item.instruction.endswith("chosen answer. Question:")
    assert mvbench.cases[0].labels == ("(B) right",)
    videomme = read(mmeb_root, "Video-MME")
    assert [case.labels for case in videomme.cases] == [("A. Red.",), ("B. Green.",)]
    assert videomme.items[3].text == "None of the above"
    assert videomme.cases[0].item.text.startswith("Which colour?\nA. Red.\nB. Green.")
    ego = read(mmeb_root, "EgoSchema")
    assert ego.cases[0].item.text.startswith("What happens? A. They cook. B. They wash.")
    assert ego.cases[0].item.video.path.parent.name == "egoschema"
    assert read(mmeb_root, "EgoSchema", V2V).cases[0].item.text.startswith("What happens?A. They cook.")
    activity = read(mmeb_root, "ActivityNetQA")
    assert activity.cases[1].item.text == "is it day? (A) yes; (B) no."
    assert (activity.cases[1].labels, activity.cases[1].item.video.path.name) == (("no",), "v_n1")


def test_the_letters_of_nextqa_differ_between_the_two(mmeb_root):
    ours, theirs = read(mmeb_root, "NExTQA"), read(mmeb_root, "NExTQA", V2V)
    assert (ours.cases[1].labels, theirs.cases[1].labels) == (("(B) stand",), ("stand",))
    assert ours.cases[1].item.text == theirs.cases[1].item.text
    assert ours.cases[0].item.video.path.name == "4740931975"


@pytest.mark.parametrize(
    ("name", "names", "text"),
    [
        ("MSR-VTT", ["video0", "video1", "video2"], "scene 1"),
        ("MSVD", ["s0", "s1", "s2"], "first 1"),
        ("DiDeMo", ["d0", "d1", "d2"], "scene 1"),
        ("YouCook2", ["y_0", "y_1", "y_2"], "stir 1"),
        ("VATEX", ["x_0", "x_1", "x_2"], "first 1"),
    ],
)
def test_text_to_video(mmeb_root, name, names, text):
    data = read(mmeb_root, name)
    assert data.names == names
    assert (data.cases[1].item.text, data.cases[1].labels) == (text, (names[1],))
    assert data.cases[0].item.instruction.endswith(".")
    assert data.items[0].video.path == mmeb_root / f"video-tasks/frames/video_ret/data/ziyan/video_retrieval/{name}/frames" / names[0]  # fmt: skip # noqa: E501
    theirs = read(mmeb_root, name, V2V)
    assert theirs.cases[0].item.instruction == data.cases[0].item.instruction[:-1] + ":"
    assert (data.items[0].instruction, theirs.items[0].instruction) == (
        TARGET,
        "Understand the content of the provided video.",
    )


def test_moments(mmeb_root):
    data = read(mmeb_root, "Charades-STA")
    assert data.names[:3] == ["vid_0/negative_1", "vid_0/negative_2", "vid_0/positive"]
    assert (data.cases[1].labels, data.cases[1].candidates.tolist()) == (("vid_1/positive",), [3, 4, 5])
    item = data.cases[0].item
    assert (item.text, item.video.path.name, item.video.most) == ("he waves 0", "query", 64)
    assert data.items[0].video.most == 8


def test_momentseeker_has_three_kinds_of_queries(mmeb_root):
    data = read(mmeb_root, "MomentSeeker")
    text, image, video = (case.item for case in data.cases)
    assert text.instruction == "Find the clip that corresponds to the given text."
    assert (image.instruction, files(image)) == (
        "Select the video clip that aligns with the given text and image.",
        ["query_asked.jpg"],
    )
    assert video.instruction == "Find the clip that corresponds to the given sentence and video segment."
    assert video.video.path.name == "movie_asked"
    assert data.cases[1].labels == ("video_frames/movie_77_1", "video_frames/movie_77_3")
    assert len(data.cases[1].candidates) == len(data.names) == 4


def test_documents(mmeb_root):
    data = read(mmeb_root, "ViDoRe_esg_reports_human_labeled_v2")
    assert [(case.labels, case.grades) for case in data.cases] == [(("0", "1"), (2.0, 1.0)), (("1",), (2.0,))]
    # A grade of 0 is none, of two grades the higher counts, and who has none cannot be asked.
    assert (data.left_out, data.names) == (1, ["0", "1", "2", "3"])
    assert data.cases[0].item.instruction == "Find a document image that matches the given query."
    assert files(data.items[2]) == ["2.png"]
    visrag = read(mmeb_root, "VisRAG_ChartQA")
    assert files(visrag.items[0])[0].startswith("a long name a long name a long name a long name a ")
    assert len(files(visrag.items[0])[0]) == 50 + 1 + 8 + 4


@pytest.mark.parametrize(("option", "text"), [("A. Red.", "Red"), ("B. 3.5 km", "3.5 km"), ("yes", "yes"), ("C. ", "")])
def test_option_letters_are_removed(option, text):
    assert without_letter(option) == text


def test_unknown_prompts():
    with pytest.raises(DatasetError, match="prompts: found 'gpt', expected one of 'qwen', 'v2v'"):
        get_prompts("gpt")


# -- what is missing ---------------------------------------------------------------------------------------------------


def fresh(tmp_path, name):
    (task,) = choose([name])
    layout = Layout(tmp_path)
    layout.write([task])
    return task, layout


def test_every_missing_file_is_listed(tmp_path):
    task, layout = fresh(tmp_path, "WebQA")
    for number in (1, 3):
        (layout.media(task, 1) / f"WebQA/img_{number}.png").unlink()
    missing = parse(task, tmp_path, QWEN).missing
    expected = [str(layout.media(task, 1) / f"WebQA/img_{number}.png") for number in (1, 3)]
    assert sorted(missing.all()) == sorted(path.replace("/MMEB", "") for path in expected) or missing.all() == expected
    assert len(missing.files) == 2


def test_a_folder_of_frames_without_frames_is_missing(tmp_path):
    task, layout = fresh(tmp_path, "MSVD")
    folder = layout.media(task, 1) / "s1"
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "Thumbs.db").write_text("")
    assert parse(task, tmp_path, QWEN).missing.all() == [str(folder)]


def test_a_missing_folder_is_listed_once(tmp_path):
    task, layout = fresh(tmp_path, "ViDoRe_docvqa")
    shutil.rmtree(tmp_path / "visdoc-tasks")
    assert parse(task, tmp_path, QWEN).missing.all() == [str(layout.media(task))]


def test_missing_annotations_are_listed(tmp_path):
    (task,) = choose(["ViDoSeek-doc"])
    missing = parse(task, tmp_path, QWEN).missing
    assert len(missing.annotations) == 3
    assert str(tmp_path / "VLM2Vec/ViDoSeek/qrels/test.parquet") in missing.all()


def test_a_moment_without_its_positive_clip(tmp_path):
    task, layout = fresh(tmp_path, "QVHighlight")
    shutil.rmtree(layout.media(task) / "vid_1/positive")
    data = parse(task, tmp_path, QWEN)
    assert (len(data.cases), data.missing.all()) == (1, [str(layout.media(task) / "vid_1/positive")])


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../../b", ""])
def test_a_path_out_of_the_folder_is_refused(tmp_path, name):
    (task,) = choose(["MSVD"])
    layout = Layout(tmp_path)
    layout.parquet(task, [{"video_id": name, "caption": ["x"]}])
    with pytest.raises(DatasetError, match=r"row 1: found the path"):
        parse(task, tmp_path, QWEN)


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("ActivityNetQA", {"video_name": "v", "question": "q", "answer": "maybe"}, "found the answer 'maybe'"),
        ("NExTQA", {"video": 1, "question": "q", "answer": 7, **{f"a{i}": "x" for i in range(5)}}, "found answer 7"),
        ("Video-MME", {"videoID": "v", "question": "q", "options": ["A. x"], "answer": ""}, "found answer -1"),
        ("SmthSmthV2", {"video_id": 1, "pos_text": "a", "neg_text": ["b"]}, "query 0: found the answer 'a'"),
        ("MSVD", {"video_id": "a", "caption": []}, "found no caption"),
    ],
)
def test_answers_outside_the_options_are_refused(tmp_path, name, row, message):
    (task,) = choose([name])
    layout = Layout(tmp_path)
    layout.jsonl(task, [row])
    layout.frames(layout.media(task) / "1", 0)
    with pytest.raises(DatasetError, match=message):
        parse(task, tmp_path, QWEN)


def test_captions_and_paths_must_be_equal_in_number(tmp_path):
    (task,) = choose(["EDIS"])
    layout = Layout(tmp_path)
    row = {"qry_inst": "", "qry_text": "", "tgt_text": ["a"], "tgt_img_path": ["a", "b"]}
    layout.parquet(task, [row])
    with pytest.raises(DatasetError, match="1 tgt_text for 2 tgt_img_path"):
        parse(task, tmp_path, QWEN)


def test_a_damaged_frame_fails_when_it_is_opened(tmp_path):
    task, layout = fresh(tmp_path, "VATEX")
    frame = layout.media(task, 1) / "x_0/frame_0001.jpg"
    frame.write_bytes(frame.read_bytes()[:100])
    data = parse(task, tmp_path, QWEN)
    assert not data.missing
    with pytest.raises(MediaError, match="frame_0001"):
        data.items[0].video.frames(4)


def test_the_file_of_a_visrag_page():
    assert shortened_page_file("a" * 60 + ".jpg") == "a" * 50 + "_83885e80.jpg"  # md5 of the whole name
