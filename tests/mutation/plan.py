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
_OPEN = f"{_SOUND}undetermined.py::test_"
_CELLS = tuple(
    f"{_OPEN}{name}"
    for name in (
        "the_checker_counts_the_same", "claims_about_ties_are_rejected", "an_open_cell_is_no_exception",
        "single_answers_are_counted_by_position", "claims_about_single_answers_are_checked",
        "the_sum_of_single_answers_follows_from_the_regions",
    )
)  # fmt: skip
_CERTIFICATES = (
    (*_CELLS, f"{_SOUND}certificate_edits.py", *_EDITED, f"{_EXCEPTED}[change_exception]"),
    (f"{_SOUND}certificates.py", f"{_SOUND}certificates_sampled.py"),
)
_BOX = f"{_SOUND}box_certificates.py::test_"
_FALSE = f"{_SOUND}box_bounds.py::test_the_checkers_bounds_never_confirm_what_is_false"
_CONFIRMED = f"{_FALSE}[no norms]"
_TREES = (
    (f"{_UNIT}boxes.py", f"{_UNIT}slices.py::test_slices_part_the_strings"),
    (f"{_UNIT}slices.py", f"{_BOX}edited_boxes_are_rejected"),
)
_BOXES = (
    (f"{_BOX}a_right_program_is_proved_by_bounds", f"{_UNIT}slices.py", f"{_FALSE}[gpt2]"),
    (f"{_BOX}a_wrong_program_is_refuted_by_bounds", f"{_FALSE}[neutral]", f"{_BOX}edited_boxes_are_rejected"),
)
_IN_BOX = f"{_SOUND}box_bounds.py::test_every_input_lies_in_its_boxs_claim"
_OUR_BOXES = (
    (f"{_VERIFY}one_layer_bounds.py", _IN_BOX,
     f"{_SOUND}box_bounds.py::test_margins_decided_are_above_what_counts_as_a_tie"),
    (f"{_BOX}a_right_program_is_proved_by_bounds", f"{_SOUND}box_bounds.py",
     f"{_BOX}a_wrong_program_is_refuted_by_bounds"),
)  # fmt: skip
_ALONE = f"{_SOUND}separable_brute_force.py::test_"
_OUR_CLASSES = (
    (*(f"{_ALONE}{name}" for name in ("an_exact_tie_is_undecided", "one_unit_in_the_last_place_is_a_margin",
                                      "cancellation_never_proves_a_wrong_sign", "overflow_is_undecided")),
     *(f"{_ALONE}random_networks[{seed}]" for seed in range(10))),
    (f"{_SOUND}separable_brute_force.py",),
)  # fmt: skip
_CLASSES = f"{_SOUND}certificates_separable.py::test_"
_TWO = f"{_SOUND}two_layer_bounds.py::test_"
_TWO_CHECKED = f"{_TWO}the_checkers_bounds_never_confirm_what_is_false"
_TWO_CERTIFICATES = f"{_SOUND}two_layer_certificates.py"
_OUR_TWO = (
    (
        f"{_VERIFY}two_layers.py",
        f"{_VERIFY}context.py",
        f"{_TWO}one_input_that_differs_is_never_proved_away",
        f"{_TWO}what_the_bounds_are_not_for_is_refused",
        f"{_TWO}a_margin_of_zero_decides_nothing",
    ),
    (f"{_TWO}every_input_lies_in_its_boxs_claim", _TWO_CERTIFICATES),
)
_SUMS = f"{_SOUND}sum_states.py::test_"
_ORDERS = f"{_SOUND}any_order_bounds.py::test_"
_OUR_SUMS = (
    (f"{_SUMS}every_input_lies_in_its_cells_claim", f"{_SUMS}one_planted_difference_is_never_agreed_away"),
    (f"{_SUMS}dense_differences_are_counted_exactly", f"{_SUMS}the_checker_accepts_dense_counts_and_no_edit_of_them"),
)
_HELD = f"{_ORDERS}what_holds_for_a_set_holds_for_every_order"
_SIZED = f"{_ORDERS}what_a_norm_takes_off_counts_in_the_size_of_computed_vectors"
_ENUMERATED = ((f"{_VERIFY}enumerate.py", f"{_SOUND}adversarial_floats.py"), (f"{_SOUND}enumeration_brute_force.py",))


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
        attended=((f"{_UNIT}spans.py", _CONFIRMED), (*_BOXES[0], *_BOXES[1])),
        boxes=((*_TREES[0], f"{_SOUND}box_bounds.py::test_decisions_are_differences_and_what_they_are_made_of",
                f"{_SOUND}box_bounds.py::test_what_bounds_give_up_on_is_not_confirmed",
                f"{_SOUND}box_bounds.py::test_what_the_bounds_are_not_for_is_refused", _CONFIRMED),
               (*_TREES[1], *_BOXES[0])),
        check=((f"{_UNIT}regions.py", *_CERTIFICATES[0]), 
               (f"{_SOUND}tables.py", *_CERTIFICATES[1], *_BOXES[0], *_BOXES[1])),
        containers=_READERS,
        counts=((f"{_UNIT}counts.py", *_CELLS), _CERTIFICATES[0]),
        facts=((f"{_UNIT}facts.py", *_READERS[0]), _READERS[1]),
        forward=((f"{_UNIT}forward.py", _ANY), (f"{_UNIT}answers.py", f"{_SOUND}any_architecture.py")),
        language=_LANGUAGE,
        layered=((f"{_UNIT}layered.py",), (f"{_SOUND}two_layer_bounds.py", _TWO_CERTIFICATES)),
        layouts=_READERS,
        margins=((f"{_UNIT}spans.py", f"{_SUMS}the_checker_confirms_no_cell_of_two_answers[no norms]", _CONFIRMED,
                  _HELD),
                 (*_BOXES[0], *_BOXES[1])),
        memory=((f"{_UNIT}layered.py::test_states_tell_strings_apart_by_what_they_remember",
                 f"{_UNIT}layered.py::test_too_many_states_are_refused",
                 f"{_UNIT}layered.py::test_only_whole_numbers_of_letters_are_remembered"), 
                (_TWO_CERTIFICATES, f"{_SOUND}two_layer_bounds.py")),
        parts=((f"{_UNIT}parts.py", f"{_UNIT}anykind.py"), (f"{_SOUND}any_architecture.py",)),
        placing=_READERS,
        program=_LANGUAGE,
        promise=(
            (*(f"{_UNIT}slices.py::test_{name}" for name in (
                "programs_of_one_answer", "programs_of_labels_share_their_parts",
                "what_cannot_be_read_left_to_right_is_refused", "what_is_known_only_at_the_end_is_not_read_before_it")),
             f"{_UNIT}spec.py::test_promises_of_every_kind", f"{_UNIT}spec.py::test_templates",
             f"{_UNIT}slices.py::test_random_terms[symbols]"),
            (f"{_UNIT}slices.py", f"{_UNIT}spec.py", f"{_CLASSES}certificates_are_accepted"),
        ),
        reader=((*_READERS[0], f"{_FORMATS}neutral.py::test_a_tensor_too_many_is_refused"), _READERS[1]),
        separable=(
            (f"{_UNIT}separable_arithmetic.py", f"{_SOUND}separable_exceptions.py",
             *(f"{_CLASSES}{name}" for name in ("margins_are_pinned_from_both_sides",
                                                "counts_moved_within_a_class_are_rejected"))),
            (f"{_SOUND}certificates_separable.py",),
        ),
        single=((_SIZED, _HELD), (f"{_SOUND}any_order_bounds.py",)),
        slices=((*_TREES[0], f"{_UNIT}slices.py::test_programs_of_one_answer", f"{_UNIT}layered.py"), _TREES[1]),
        spans=((f"{_UNIT}spans.py", _CONFIRMED), (*_BOXES[0], *_BOXES[1])),
        spec=((f"{_UNIT}spec.py", f"{_UNIT}answers.py"), _CERTIFICATES[0]),
        sums=((f"{_SUMS}cells_bounded_together_are_bounded_each",
               f"{_SUMS}the_checker_confirms_no_cell_of_two_answers"),
              (f"{_SUMS}the_checker_accepts_dense_counts_and_no_edit_of_them",)),
        table=((f"{_SOUND}tables.py",), (f"{_FORMATS}table.py",)),
        weights=((f"{_UNIT}anykind.py::test_whatever_is_not_of_gpt2s_kind_is_not_taken_for_it", *_READERS[0]),
                 _READERS[1]),
    ),
    "bounds": _part(
        "verify",
        activations=((f"{_VERIFY}activations.py",), ()),
        affine=((f"{_VERIFY}affine.py", f"{_VERIFY}two_layers.py"), _OUR_BOXES[0]),
        bounded=((f"{_VERIFY}bounded.py",), (f"{_SOUND}separable_brute_force.py",)),
        box_proof=_OUR_BOXES,
        boxes=((f"{_VERIFY}paths.py", f"{_VERIFY}context.py"), _OUR_BOXES[0]),
        cell_errors=(
            (f"{_VERIFY}cell_errors.py", f"{_SOUND}first_attention_errors.py"),
            (f"{_SOUND}any_order_bounds.py",),
        ),
        context=((f"{_VERIFY}context.py", f"{_VERIFY}two_layers.py"), _OUR_TWO[0]),
        counters=((f"{_VERIFY}counters.py", *_OUR_SUMS[0]), _OUR_SUMS[1]),
        entrywise=((f"{_UNIT}anykind.py",), (f"{_SOUND}any_architecture.py",)),
        final_stage=_OUR_BOXES,
        form_errors=((_SIZED, _HELD), (f"{_SOUND}any_order_bounds.py",)),
        head_sums=_OUR_BOXES,
        layer_tables=_OUR_TWO,
        margin_tables=_OUR_CLASSES,
        partwise=((f"{_UNIT}anykind.py",), (f"{_SOUND}any_architecture.py",)),
        pieces=((f"{_VERIFY}two_layers.py",), _OUR_TWO[0]),
        plain=_ENUMERATED,
        quotients=((f"{_VERIFY}context.py", f"{_VERIFY}two_layers.py"), _OUR_TWO[0]),
        paths=((f"{_VERIFY}paths.py",), _OUR_BOXES[0]),
        rounding=(
            (f"{_VERIFY}rounding_grows.py", f"{_VERIFY}rounding.py", f"{_SOUND}adversarial_floats.py"),
            (f"{_SOUND}any_architecture.py",),
        ),
        second_layer=_OUR_TWO,
        separable=(_OUR_CLASSES[0], (*_OUR_CLASSES[1], f"{_SOUND}certificates_separable.py")),
        stages=((f"{_VERIFY}rounding.py", *_ENUMERATED[0]), (f"{_SOUND}any_architecture.py",)),
        sum_cells=_OUR_SUMS,
        sum_states=_OUR_SUMS,
        sum_table=_ENUMERATED,
        terms=(_ENUMERATED[0], _OUR_BOXES[0]),
        trie_attention=_ENUMERATED,
        two_layers=((f"{_TWO}every_input_lies_in_its_boxs_claim", *_OUR_TWO[0][::-1]), _OUR_TWO[1]),
        weight_norms=((f"{_VERIFY}rounding_grows.py", f"{_VERIFY}rounding.py"), ()),
        worst_margin=((f"{_VERIFY}bounded.py", f"{_ALONE}signs_are_counted_as_string_by_string"), _OUR_CLASSES[0]),
    ),
}  # fmt: skip
