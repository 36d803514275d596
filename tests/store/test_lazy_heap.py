"""The heap that the memory store's orders are made of."""

from hypothesis import given, settings
from hypothesis import strategies as st

from store.lazy_heap import LazyHeap

STEPS = st.lists(st.tuples(st.sampled_from(["add", "add", "discard", "pop", "first"]), st.integers(0, 9)), max_size=80)


@settings(derandomize=True, database=None, deadline=None)
@given(STEPS)
def test_a_heap_is_a_set_that_knows_its_smallest(steps: list[tuple[str, int]]) -> None:
    heap: LazyHeap[tuple[int]] = LazyHeap()
    model: set[tuple[int]] = set()
    for step, number in steps:
        smallest = min(model, default=None)
        match step:
            case "add":
                heap.add((number,))
                model.add((number,))
            case "discard":
                heap.discard((number,))
                model.discard((number,))
            case "pop":
                assert heap.pop() == smallest
                model.discard(smallest or (-1,))
            case _:
                assert heap.first() == smallest
        assert len(heap) == len(model)
    assert sorted(heap.clear()) == sorted(model)
    assert heap.pop() is None


def test_keys_that_come_and_go_take_no_room() -> None:
    heap: LazyHeap[tuple[int]] = LazyHeap()
    heap.add((-1,))
    for number in range(10_000):
        heap.add((number,))
        heap.discard((number,))
    assert len(heap._heap) < 100
