//! The kernel for the tile registers of AMX: 32 rows and 32 columns in four registers of sums.

use std::arch::asm;

use super::{COLUMNS, Kernel, PanelRow, ROWS, Rows, Tile};

/// Units in a row of a tile register.
const UNITS: usize = 16;

pub(in super::super) const BF16: Kernel =
    Kernel { rows: ROWS, reads: ROWS, stride: None, units: UNITS, begin: Some(configure), end: Some(release), run };

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

/// Calls `f` while the tile registers have their shapes. Only where the level has AMX.
pub(crate) fn with_tiles(f: impl FnOnce()) {
    let _session = BF16.begin();
    f();
}

fn configure() {
    #[expect(unsafe_code, reason = "there are no stable intrinsics for AMX")]
    // SAFETY: `Kernel::new` chooses this kernel where AMX was detected and the system has granted its registers, and the
    // shapes are laid out as the instruction reads them.
    unsafe {
        asm!("ldtilecfg [{}]", in(reg) &raw const SHAPES, options(nostack, readonly));
    }
}

fn release() {
    #[expect(unsafe_code, reason = "there are no stable intrinsics for AMX")]
    // SAFETY: as in `configure`; the instruction gives the registers back, which no other code uses.
    unsafe {
        asm!("tilerelease", options(nostack, nomem));
    }
}

fn run(left: Rows<'_>, panel: &[PanelRow], add: bool, tile: &mut Tile) {
    let steps = panel.len() / UNITS;
    if steps == 0 {
        if !add {
            tile.0.fill([0.0; COLUMNS]);
        }
        return;
    }
    let sums = tile.0.as_mut_ptr();
    #[expect(unsafe_code, reason = "there are no stable intrinsics for AMX")]
    // SAFETY: as in `configure`, which `Kernel::begin` has called. The instructions read 32 rows of `left` up to the last
    // unit of `panel`, which `Kernel::run` has checked, and the units of `panel`. They read and write the 32 rows of the
    // tile.
    unsafe {
        asm!(
            "test {add}, {add}",
            "jnz 2f",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "jmp 3f",
            "2:",
            "tileloadd tmm0, [{sums} + {width}*1]",
            "tileloadd tmm1, [{sums} + {width}*1 + 64]",
            "tileloadd tmm2, [{sums} + {width}*1 + 2048]",
            "tileloadd tmm3, [{sums} + {width}*1 + 2112]",
            "3:",
            "tileloadd tmm4, [{upper} + {stride}*1]",
            "tileloadd tmm6, [{panel} + {width}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{panel} + {width}*1 + 64]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{lower} + {stride}*1]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {upper}, 64",
            "add {lower}, 64",
            "add {panel}, 2048",
            "dec {steps}",
            "jnz 3b",
            "tilestored [{sums} + {width}*1], tmm0",
            "tilestored [{sums} + {width}*1 + 64], tmm1",
            "tilestored [{sums} + {width}*1 + 2048], tmm2",
            "tilestored [{sums} + {width}*1 + 2112], tmm3",
            add = in(reg) u64::from(add),
            sums = in(reg) sums,
            width = in(reg) 4 * COLUMNS,
            upper = inout(reg) left.units.as_ptr() => _,
            lower = inout(reg) left.units[16 * left.stride..].as_ptr() => _,
            stride = in(reg) 4 * left.stride,
            panel = inout(reg) panel.as_ptr() => _,
            steps = inout(reg) steps => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
