//! The kernel for the tile registers of AMX: 32 rows and 32 columns in four registers of sums.
//!
//! A step multiplies for 64 cycles, and loads 4 KB: half of that time from the first cache, at two lines of it a cycle, and all
//! of it from the second, at one at best. So panels, of which each call reads another, are fetched into the first cache ahead.

use std::arch::asm;

use super::{COLUMNS, Kernel, Meanwhile, Operands, PanelRow, ROWS, Run, Tile};
use crate::cpu::simd::Level;

/// Units in a row of a tile register.
const UNITS: usize = 16;

/// Bytes of panels that stay in the second cache. Lines of up to some 300 units stay in the first from one panel to the
/// next. On an Intel Xeon of model 207, products of 624 rows are 0 to 57% faster, the widest most, than with so few panels
/// that they stay in the first cache themselves, and without fetching ahead; gradients of weights are 10% slower to 20% faster.
const SECOND: usize = 1 << 20;

pub(in super::super) const BF16: Kernel = Kernel { rows: ROWS, panel_bytes: SECOND, run: Run::Tiles(run) };

/// How far ahead panels are fetched into the first cache: four steps, which may be those of panels after this one.
const AHEAD: usize = 4 * size_of::<[PanelRow; UNITS]>();

/// Instructions that fetch a quarter of the panel rows of a step, from so many bytes on.
macro_rules! fetch {
    ($first:literal) => {
        concat!(
            ".irp line, 0, 64, 128, 192, 256, 320, 384, 448\n",
            "prefetcht0 [{panel} + {ahead} + ",
            $first,
            " + \\line]\n",
            ".endr",
        )
    };
}

/// The shapes of the tile registers, as the instruction that sets them reads it: palette 1, then for each register the
/// bytes of a row and the number of rows.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// All eight registers have 16 rows of 16 units.
static SHAPES: Shapes = Shapes {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Calls `f` while the tile registers have their shapes.
///
/// # Panics
/// When the level of this thread has no AMX.
pub(crate) fn with_tiles(f: impl FnOnce()) {
    assert!(Level::detect().has_amx(), "there are tile registers");
    let _session = BF16.begin();
    f();
}

pub(super) fn configure() {
    #[expect(unsafe_code, reason = "there are no stable intrinsics for AMX")]
    // SAFETY: `Kernel::new` and `with_tiles` have asked the level, which has AMX where it was detected and the system has
    // granted its registers. The shapes are laid out as the instruction reads them.
    unsafe {
        asm!("ldtilecfg [{}]", in(reg) &raw const SHAPES, options(nostack, readonly));
    }
}

pub(super) fn release() {
    #[expect(unsafe_code, reason = "there are no stable intrinsics for AMX")]
    // SAFETY: as in `configure`; the instruction gives the registers back, which no other code uses.
    unsafe {
        asm!("tilerelease", options(nostack, nomem));
    }
}

fn run(operands: Operands<'_>, tile: &mut Tile, meanwhile: &mut Meanwhile<'_>) {
    let Operands { left, left_strides: [left_stride, _], panel, length, .. } = operands;
    let steps = length / UNITS;
    let parts = steps.min(2);
    let sums = tile.0.as_mut_ptr();
    let upper = left.as_ptr();
    let stride = 4 * left_stride;
    let width = 4 * COLUMNS;
    #[expect(unsafe_code, reason = "there are no stable intrinsics for AMX")]
    // SAFETY: as in `configure`, which `Kernel::begin` has called. The instructions read `length` units of 32 rows of
    // `left` and of `panel`, which `Session::run_in_tiles` has checked, and write the 32 rows of the tile. What is
    // fetched ahead may lie beyond the panel: that changes nothing that the program could see. The sums stay in registers 0
    // to 3 from one block to the next: compilers use tile registers for nothing but intrinsics of AMX, and there are none
    // in this program.
    unsafe {
        asm!(
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            options(nostack, nomem),
        );
        let lower = left[16 * left_stride..].as_ptr();
        for step in 0..steps {
            asm!(
                "tileloadd tmm4, [{upper} + {stride}*1]",
                "tileloadd tmm6, [{panel} + {width}*1]",
                "tileloadd tmm7, [{panel} + {width}*1 + 64]",
                "tileloadd tmm5, [{lower} + {stride}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                fetch!(0),
                "tdpbf16ps tmm1, tmm4, tmm7",
                fetch!(512),
                "tdpbf16ps tmm2, tmm5, tmm6",
                fetch!(1024),
                "tdpbf16ps tmm3, tmm5, tmm7",
                fetch!(1536),
                upper = in(reg) upper.add(UNITS * step),
                lower = in(reg) lower.add(UNITS * step),
                panel = in(reg) panel.as_ptr().add(COLUMNS * UNITS * step),
                stride = in(reg) stride,
                width = in(reg) width,
                ahead = const AHEAD,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, readonly),
            );
            // Fewer, longer parts cost less than many short ones.
            if (step + 1) * parts / steps > step * parts / steps {
                meanwhile(step * parts / steps, parts);
            }
        }
        asm!(
            "tilestored [{sums} + {width}*1], tmm0",
            "tilestored [{sums} + {width}*1 + 64], tmm1",
            "tilestored [{sums} + {width}*1 + 2048], tmm2",
            "tilestored [{sums} + {width}*1 + 2112], tmm3",
            sums = in(reg) sums,
            width = in(reg) width,
            options(nostack),
        );
    }
}
