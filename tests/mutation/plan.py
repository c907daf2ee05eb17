"""Which modules are mutated, and which tests are asked to notice: the fastest first, the same for every mutant."""

from __future__ import annotations

from dataclasses import dataclass

_UNIT, _FORMATS, _VERIFY = "tests/unit/check/test_", "tests/unit/formats/test_", "tests/unit/verify/test_"
_SOUND = "tests/soundness/test_"
_ANY = f"{_SOUND}any_architecture.py::test_no_bound_is_wrong[84]"
_READERS = (
    (f"{_UNIT}reader.py", f"{_UNIT}containers.py", f"{_FORMATS}layouts.py"),
    (
        f"{_FORMATS}neutral.py",
        f"{_FORMATS}lookalikes.py",
        f"{_FORMATS}shared_formats.py",
        f"{_SOUND}certificates_config.py",
    ),
)
_LANGUAGE = ((f"{_UNIT}spec.py", f"{_UNIT}program.py"), (f"{_UNIT}answers.py", f"{_UNIT}slices.py"))
_EXACT = f"{_SOUND}certificates.py::test_edited_and_sealed_again_is_rejected"
_EXCEPTED = f"{_SOUND}certificates.py::test_edited_exceptions_are_rejected"
_EDITED = tuple(f"{_EXACT}[{name}]" for name in ("move_count", "relabel_region", "change_margin", "flip_digest"))
_CERTIFICATES = (
    (f"{_SOUND}undetermined.py", f"{_SOUND}certificate_edits.py", *_EDITED, f"{_EXCEPTED}[change_exception]"),
    (f"{_SOUND}certificates.py", f"{_SOUND}certificates_sampled.py"),
)
_BOX = f"{_SOUND}box_certificates.py::test_"
_FALSE = f"{_SOUND}box_bounds.py::test_the_checkers_bounds_never_confirm_what_is_false"
_BOXES = (
    (f"{_BOX}a_right_program_is_proved_by_bounds", f"{_UNIT}slices.py", f"{_FALSE}[gpt2]"),
    (f"{_BOX}a_wrong_program_is_refuted_by_bounds", f"{_FALSE}[neutral]", f"{_BOX}edited_boxes_are_rejected"),
)
_IN_BOX = f"{_SOUND}box_bounds.py::test_every_input_lies_in_its_boxs_claim"
_OUR_BOXES = (
    (f"{_VERIFY}affine.py", f"{_VERIFY}one_layer_bounds.py", f"{_BOX}a_right_program_is_proved_by_bounds", _IN_BOX),
    (f"{_SOUND}box_bounds.py", f"{_BOX}a_wrong_program_is_refuted_by_bounds"),
)
_CLASSES = f"{_SOUND}certificates_separable.py::test_"


@dataclass(frozen=True)
class Part:
    """Modules, and the tests asked about each."""

    tests: dict[str, tuple[tuple[str, ...], tuple[str, ...]]]

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules in order of their names."""
        return tuple(sorted(self.tests))

    def tests_of(self, module: str, is_quick: bool = False) -> tuple[str, ...]:
        """Return the tests asked about a module, or the quicker of them."""
        quick, rest = self.tests[module]
        return quick if is_quick else quick + rest


def _part(room: str, **tests: tuple[tuple[str, ...], tuple[str, ...]]) -> Part:
    return Part({f"extract/{room}/{name}.py": asked for name, asked in tests.items()})


PARTS = {
    "checker": _part(
        "check",
        answers=((f"{_UNIT}answers.py", _ANY), (*_CERTIFICATES[0], *_CERTIFICATES[1])),
        anykind=((f"{_UNIT}anykind.py", _ANY), ()),
        attended=((f"{_UNIT}spans.py", *_BOXES[0]), _BOXES[1]),
        boxes=_BOXES,
        check=((*_CERTIFICATES[0], f"{_SOUND}tables.py"), (*_CERTIFICATES[1], *_BOXES[0], *_BOXES[1])),
        containers=_READERS,
        facts=_READERS,
        forward=((f"{_UNIT}forward.py", _ANY), (f"{_UNIT}answers.py", f"{_SOUND}any_architecture.py")),
        language=_LANGUAGE,
        layouts=_READERS,
        parts=((f"{_UNIT}parts.py", f"{_UNIT}anykind.py"), (f"{_SOUND}any_architecture.py",)),
        placing=_READERS,
        program=_LANGUAGE,
        promise=((f"{_UNIT}slices.py", f"{_UNIT}spec.py"), (f"{_CLASSES}certificates_are_accepted",)),
        reader=_READERS,
        separable=(
            (f"{_UNIT}separable_arithmetic.py", f"{_SOUND}separable_exceptions.py",
             *(f"{_CLASSES}{name}" for name in ("margins_are_pinned_from_both_sides",
                                                "counts_moved_within_a_class_are_rejected", "labels_are_accepted"))),
            (f"{_SOUND}certificates_separable.py",),
        ),
        slices=_BOXES,
        spans=((f"{_UNIT}spans.py", *_BOXES[0]), _BOXES[1]),
        spec=((f"{_UNIT}spec.py", f"{_UNIT}answers.py"), _CERTIFICATES[0]),
        table=((f"{_SOUND}tables.py",), (f"{_FORMATS}table.py",)),
        weights=_READERS,
    ),
    "bounds": _part(
        "verify",
        activations=((f"{_VERIFY}activations.py",), ()),
        affine=_OUR_BOXES,
        bounded=((f"{_VERIFY}bounded.py",), (f"{_SOUND}separable_brute_force.py",)),
        box_proof=_OUR_BOXES,
        final_stage=_OUR_BOXES,
        head_sums=_OUR_BOXES,
        paths=((f"{_VERIFY}paths.py",), _OUR_BOXES[0]),
        rounding=(
            (f"{_VERIFY}rounding_grows.py", f"{_VERIFY}rounding.py", f"{_SOUND}adversarial_floats.py"),
            (f"{_SOUND}any_architecture.py",),
        ),
        separable=((f"{_SOUND}separable_brute_force.py",), (f"{_SOUND}certificates_separable.py",)),
    ),
}  # fmt: skip
