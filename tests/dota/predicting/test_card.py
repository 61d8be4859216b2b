"""Model cards: written and read back; what cannot be is refused with a line."""

from __future__ import annotations

import dataclasses
import json

import pytest

from fdam_rotate.dota.predicting.card import CardError, ModelCard

CARD = ModelCard(
    classes=("plane", "ship"), height=1024, width=512, batch=2, max_boxes=4000, score_thr=0.05, iou_thr=0.1,
    max_per_image=2000, gap=200, detector="OrientedRCNN", config="c.py", precision="float16",
    checkpoint_sha256="ab", trained_on="DOTA-v1.0 train", licence="academic use only", gsd=0.3,
    versions={"torch": "2.11"},
)  # fmt: skip


def test_a_card_is_read_as_it_was_written():
    text = CARD.to_json()
    assert ModelCard.from_json(text) == CARD
    values = json.loads(text)
    assert values["format_version"] == 1
    values["a later addition"] = 3
    assert ModelCard.from_json(json.dumps(values)) == CARD


def test_what_may_be_unknown_may_be_missing():
    values = json.loads(CARD.to_json())
    for name in ("precision", "checkpoint_sha256", "trained_on", "licence", "gsd", "versions"):
        del values[name]
    card = ModelCard.from_json(json.dumps(values))
    assert (card.precision, card.gsd, card.versions) == ("float32", None, {})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"classes": []}, "1 to 10,000 different classes, got 0", id="no class"),
        pytest.param({"classes": ["ship", "ship"]}, "different classes", id="a class twice"),
        pytest.param({"classes": ["ship", 3]}, "classes must be names", id="a number for a name"),
        pytest.param({"classes": "ship"}, "classes must be names", id="text for a list"),
        pytest.param({"height": 10**9}, "height must be a whole number from 1 to 8,192, got 1000000000", id="absurd"),
        pytest.param({"width": 0}, "width must be", id="no width"),
        pytest.param({"width": 10.0}, "width must be", id="a fraction"),
        pytest.param({"batch": True}, "batch must be", id="a truth value"),
        pytest.param({"max_boxes": 1 << 40}, "max_boxes must be", id="too many boxes"),
        pytest.param({"gap": -1}, "gap must be", id="negative gap"),
        pytest.param({"score_thr": 2}, r"score_thr must lie in \[0, 1\], got 2", id="score"),
        pytest.param({"iou_thr": float("nan")}, "iou_thr must lie", id="NaN"),
        pytest.param({"detector": None}, "detector must be text", id="no detector"),
        pytest.param({"precision": "float64"}, "precision must be", id="precision"),
        pytest.param({"licence": 3}, "licence must be text", id="licence"),
        pytest.param({"gsd": 0}, "gsd must be a positive number", id="gsd"),
        pytest.param({"versions": []}, "versions must be a table", id="versions"),
        pytest.param({"classes": ["ship", ""]}, "classes must be names", id="an empty name"),
        pytest.param({"classes": [f"c{k}" for k in range(10_001)]}, "different classes, got 10,001", id="many classes"),
        pytest.param({"classes": ["cafe\u0301"]}, "not in Unicode's form NFC", id="a name written otherwise"),
        pytest.param({"batch": 4097}, "batch must be a whole number from 1 to 4,096, got 4097", id="a large batch"),
        pytest.param({"max_boxes": 2**20 + 1}, "max_boxes must be a whole number from 1 to 1,048,576", id="boxes"),
        pytest.param({"max_per_image": 2**20 + 1}, "max_per_image must be", id="boxes of an image"),
        pytest.param({"score_thr": True}, r"score_thr must lie in \[0, 1\], got True", id="a truth value for a score"),
        pytest.param({"iou_thr": "0.1"}, "iou_thr must lie", id="text for an overlap"),
        pytest.param({"config": 3}, "config must be text, got 3", id="no config"),
        pytest.param({"trained_on": ["DOTA"]}, "trained_on must be text", id="trained on a list"),
        pytest.param({"checkpoint_sha256": 3}, "checkpoint_sha256 must be text", id="a number for a checksum"),
        pytest.param({"gsd": float("inf")}, "gsd must be a positive number", id="infinite gsd"),
        pytest.param({"gsd": "0.3"}, "gsd must be a positive number", id="text for a gsd"),
        pytest.param({"format_version": 2}, "format version 2; this release reads 1", id="later format"),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    values = {**json.loads(CARD.to_json()), **changes}
    with pytest.raises(CardError, match=message):
        ModelCard.from_json(json.dumps(values))


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '"text"', "{}"])
def test_damaged_cards_are_refused(text):
    with pytest.raises(CardError, match=r"^model card: "):
        ModelCard.from_json(text)


def test_missing_values_are_named():
    values = json.loads(CARD.to_json())
    del values["gap"], values["classes"]
    with pytest.raises(CardError, match="classes, gap missing"):
        ModelCard.from_json(json.dumps(values))


@pytest.mark.parametrize(
    "changes",
    [
        {"height": 8192, "width": 1, "batch": 4096, "max_boxes": 2**20, "max_per_image": 2**20, "gap": 8192},
        {"height": 1, "width": 8192, "batch": 1, "max_boxes": 1, "max_per_image": 1, "gap": 0},
        {"score_thr": 0, "iou_thr": 1, "precision": "int8"},
        {"score_thr": 1.0, "iou_thr": 0.0, "precision": "float32"},
        {"classes": [f"c{k}" for k in range(10_000)]},
    ],
    ids=["largest", "least", "thresholds", "other thresholds", "classes"],
)
def test_the_bounds_themselves_are_allowed(changes):
    card = ModelCard.from_json(json.dumps({**json.loads(CARD.to_json()), **changes}))
    for name, value in changes.items():
        assert getattr(card, name) == (tuple(value) if name == "classes" else value)


def test_a_card_is_readable_text_in_the_order_of_its_keys():
    text = dataclasses.replace(CARD, trained_on="Flüsse").to_json()
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert '"trained_on": "Flüsse"' in text
