//! A global allocator that keeps large blocks for their next use.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Requests below this size (in bytes) go to the system, which is good at them.
const SMALLEST: usize = 1 << SMALLEST_LOG;
const SMALLEST_LOG: u32 = 15;

/// Sizes are rounded up to this many steps per power of two, so at most an eighth is wasted.
const STEPS: usize = 1 << STEPS_LOG;
const STEPS_LOG: u32 = 3;

const CLASSES: usize = (usize::BITS - SMALLEST_LOG) as usize * STEPS;

/// Alignment (in bytes) of kept blocks: a cache line, and a vector of the widest instruction set.
const ALIGN: usize = 64;

/// Keeps large blocks that are freed, and hands them out again.
///
/// A training step asks for the same large blocks as the step before it. The allocators of the C libraries return them
/// to the operating system each time, which then clears every page anew; that has taken a fifth of a step. Blocks of
/// 32 KiB or more are kept here by size, at most a limit in total, and everything else is left to [`System`].
///
/// # Examples
/// ```
/// use numformer_ops::RecyclingAllocator;
///
/// #[global_allocator]
/// static ALLOCATOR: RecyclingAllocator = RecyclingAllocator::new(4 << 30);
///
/// let first = vec![1.0f32; 100_000];
/// let address = first.as_ptr();
/// drop(first);
/// assert_eq!(vec![0.0f32; 99_000].as_ptr(), address);
/// ```
#[derive(Debug)]
pub struct RecyclingAllocator {
    bins: [Mutex<Bin>; CLASSES],
    kept: AtomicUsize,
    limit: usize,
}

impl RecyclingAllocator {
    /// An allocator that keeps at most `limit` bytes in blocks that are free.
    pub const fn new(limit: usize) -> Self {
        Self { bins: [const { Mutex::new(Bin(ptr::null_mut())) }; CLASSES], kept: AtomicUsize::new(0), limit }
    }

    fn bin(&self, class: Class) -> MutexGuard<'_, Bin> {
        // Nothing panics while a bin is locked, and an allocator must not.
        self.bins[class.index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The free blocks of a class: a list whose links are stored in the blocks themselves.
#[derive(Debug)]
struct Bin(*mut u8);

#[expect(unsafe_code, reason = "the pointer is a block of memory that nothing else refers to")]
// SAFETY: a free block belongs to its bin alone, whatever thread it was allocated on.
unsafe impl Send for Bin {}

/// The sizes that are rounded up to the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Class {
    index: usize,
    /// In bytes; at least that of every request in the class.
    size: usize,
}

impl Class {
    /// The class of a request, or none where it is left to the system.
    fn of(layout: Layout) -> Option<Self> {
        if layout.size() < SMALLEST || layout.align() > ALIGN {
            return None;
        }
        let step = 1 << (layout.size().ilog2() - STEPS_LOG);
        // A `Layout` is at most `isize::MAX` bytes, so this does not overflow.
        let size = layout.size().next_multiple_of(step);
        let log = size.ilog2();
        let within = (size >> (log - STEPS_LOG)) % STEPS;
        Some(Self { index: (log - SMALLEST_LOG) as usize * STEPS + within, size })
    }

    fn layout(self) -> Option<Layout> {
        Layout::from_size_align(self.size, ALIGN).ok()
    }
}

#[expect(unsafe_code, reason = "the trait is unsafe")]
// SAFETY: a block comes from the system with its class's size and alignment, which are at least those of any layout of
// the class, and is in one place at a time: with the caller, or in the bin of its class. A layout names its class, so
// `dealloc` finds the bin that `alloc` took from.
unsafe impl GlobalAlloc for RecyclingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = Class::of(layout) else {
            // SAFETY: the caller's promises are the system's.
            return unsafe { System.alloc(layout) };
        };
        let mut bin = self.bin(class);
        let block = bin.0;
        if !block.is_null() {
            // SAFETY: a block in a bin is at least as large and aligned as a pointer, and `dealloc` stored one.
            bin.0 = unsafe { block.cast::<*mut u8>().read() };
            self.kept.fetch_sub(class.size, Ordering::Relaxed);
            return block;
        }
        drop(bin);
        match class.layout() {
            // SAFETY: the size is not zero.
            Some(layout) => unsafe { System.alloc(layout) },
            None => ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(class) = Class::of(layout) else {
            // SAFETY: `alloc` took a block of such a layout from the system.
            return unsafe { System.dealloc(block, layout) };
        };
        if self.kept.fetch_add(class.size, Ordering::Relaxed) + class.size > self.limit {
            self.kept.fetch_sub(class.size, Ordering::Relaxed);
            if let Some(layout) = class.layout() {
                // SAFETY: `alloc` took the block from the system with this layout.
                unsafe { System.dealloc(block, layout) };
            }
            return;
        }
        let mut bin = self.bin(class);
        // SAFETY: the block is at least as large and aligned as a pointer, and its owner has given it up.
        unsafe { block.cast::<*mut u8>().write(bin.0) };
        bin.0 = block;
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller promises that `new_size` makes a layout.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        match (Class::of(layout), Class::of(new_layout)) {
            // SAFETY: the block came from the system with this layout.
            (None, None) => unsafe { System.realloc(block, layout, new_size) },
            (old, new) if old == new => block,
            _ => {
                // SAFETY: the caller promises that `new_size` is not zero.
                let moved = unsafe { self.alloc(new_layout) };
                if !moved.is_null() {
                    // SAFETY: both blocks hold at least the smaller size, and they are different blocks.
                    unsafe { ptr::copy_nonoverlapping(block, moved, layout.size().min(new_size)) };
                    // SAFETY: the caller gives up the old block.
                    unsafe { self.dealloc(block, layout) };
                }
                moved
            }
        }
    }
}

#[cfg(test)]
#[expect(unsafe_code, reason = "tests call the allocator as the compiler would")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 4).expect("a small power of two")
    }

    #[test]
    fn a_class_has_room_and_wastes_at_most_an_eighth() {
        let mut last = None;
        for size in (SMALLEST..1 << 20).step_by(64).chain([1 << 40, (1 << 40) + 1]) {
            let class = Class::of(layout(size)).expect("large enough");
            assert!(class.size >= size && class.size - size <= size / 8, "{size}: {class:?}");
            assert!(class.index < CLASSES);
            // Larger sizes have larger classes, and an index has one size.
            if let Some(last) = last.replace(class) {
                assert!((last.index < class.index) == (last.size < class.size), "{last:?} {class:?}");
            }
        }
        assert_eq!(Class::of(layout(SMALLEST - 1)), None);
        assert_eq!(Class::of(Layout::from_size_align(1 << 20, 4096).expect("a power of two")), None);
    }

    #[test]
    fn a_freed_block_is_handed_out_again_up_to_the_limit() {
        let allocator = RecyclingAllocator::new(150_000);
        // SAFETY: sizes are not zero, and each block is freed once, with the layout it was asked for with.
        unsafe {
            let [first, second] = [allocator.alloc(layout(100_000)), allocator.alloc(layout(100_000))];
            assert!(!first.is_null() && !second.is_null() && first != second);
            allocator.dealloc(first, layout(100_000));
            // Beyond the limit: back to the system.
            allocator.dealloc(second, layout(100_000));
            let again = allocator.alloc(layout(99_000));
            assert_eq!(again, first);
            assert_eq!(allocator.kept.load(Ordering::Relaxed), 0);
            allocator.dealloc(again, layout(99_000));
        }
    }

    proptest! {
        /// Growing and shrinking over both kinds of blocks keeps what was written.
        #[test]
        fn reallocation_keeps_the_contents(sizes in prop::collection::vec(1usize..200_000, 1..12)) {
            let allocator = RecyclingAllocator::new(1 << 20);
            let mut size = sizes[0];
            // SAFETY: the block is used within its size and freed with its last layout.
            unsafe {
                let mut block = allocator.alloc(layout(size));
                block.write(42);
                for new in sizes {
                    block = allocator.realloc(block, layout(size), new);
                    size = new;
                    prop_assert_eq!(block.read(), 42);
                    block.add(size - 1).write(42);
                    block.write(42);
                }
                allocator.dealloc(block, layout(size));
            }
        }
    }
}
