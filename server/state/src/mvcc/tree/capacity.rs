//! How the arrays of the tree's nodes grow and shrink.
//!
//! Doubling would leave a quarter of the index's memory unused. The capacities here are the ones
//! that fill the allocator's size classes instead (mimalloc and jemalloc have four to each
//! doubling), so an array of N elements wastes at most a fifth of its block and a tenth on average.

/// A shrinking array keeps room for this many elements, so that removals and insertions that take
/// turns do not reallocate each time.
const SHRINK_SLACK: usize = 4;

/// The number of elements that fill the size class in which `len` of them fit; at least `len`.
pub(super) fn stepped_capacity<T>(len: usize) -> usize {
    let size = size_of::<T>().max(1);
    let bytes = len * size;
    let step = (bytes.next_power_of_two() / 8).max(16);
    bytes.next_multiple_of(step) / size
}

/// The largest length up to `max` that leaves no room in its size class; at least half of `max`.
pub(super) fn snug_len<T>(max: usize) -> usize {
    let half = max / 2;
    (half..=max)
        .rev()
        .find(|len| stepped_capacity::<T>(*len) == *len)
        .unwrap_or(max)
}

/// Grows a full array by one step.
pub(super) fn make_room<T>(array: &mut Vec<T>) {
    let len = array.len();
    if len == array.capacity() {
        array.reserve_exact(stepped_capacity::<T>(len + 1) - len);
    }
}

/// Gives back memory after removals once more than a few elements' worth is unused.
pub(super) fn release_room<T>(array: &mut Vec<T>) {
    if array.capacity() > stepped_capacity::<T>(array.len() + SHRINK_SLACK) {
        trim(array);
    }
}

/// Cuts the array down to the step that holds its elements. They move: an allocator that is asked to shrink a block
/// leaves it where it is, and as large, while half of it is used (mimalloc), as it is after every split.
pub(super) fn trim<T>(array: &mut Vec<T>) {
    let capacity = stepped_capacity::<T>(array.len());
    if array.capacity() > capacity {
        let mut trimmed = Vec::with_capacity(capacity);
        trimmed.append(array);
        *array = trimmed;
    }
}

/// Moves the elements from `at` on into an array of their own; both take no more room than needed.
pub(super) fn split_array<T>(array: &mut Vec<T>, at: usize) -> Vec<T> {
    let mut right = Vec::with_capacity(stepped_capacity::<T>(array.len() - at));
    right.extend(array.drain(at..));
    trim(array);
    right
}

#[cfg(test)]
mod tests {
    use super::{make_room, snug_len, split_array, stepped_capacity};

    #[test]
    fn a_step_holds_the_length_and_wastes_at_most_a_fifth() {
        for len in 8..1_000 {
            let capacity = stepped_capacity::<[u64; 7]>(len);
            assert!(capacity >= len, "{len} does not fit {capacity}");
            assert!(
                (capacity - len) * 5 <= capacity,
                "{len} wastes too much of {capacity}"
            );
        }
    }

    #[test]
    fn a_snug_length_fills_its_size_class() {
        // 54 * 56 = 3024 bytes of a class of 3072.
        assert_eq!(snug_len::<[u64; 7]>(58), 54);
        assert_eq!(snug_len::<[u64; 6]>(64), 64);
    }

    #[test]
    fn both_halves_of_a_split_move_to_blocks_of_their_size() {
        let mut left: Vec<u64> = (0..64).collect();
        let block = left.as_ptr();
        let right = split_array(&mut left, 32);
        assert_ne!(left.as_ptr(), block, "it would stay as large");
        assert_eq!((left.capacity(), right.capacity()), (32, 32));
        assert!(left.into_iter().chain(right).eq(0..64));
    }

    #[test]
    fn a_full_array_grows_by_one_step() {
        let mut array = vec![0_u64; 128];
        assert_eq!(array.capacity(), array.len(), "the array is full");
        make_room(&mut array);
        assert_eq!(array.capacity(), stepped_capacity::<u64>(array.len() + 1));
    }
}
