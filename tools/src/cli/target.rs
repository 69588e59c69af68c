//! The CPUs for which `mbert convert` packs weights.

use clap::ValueEnum;
use clap::builder::PossibleValue;
use mbert_runtime::format::layout::WeightLayout;

/// A CPU for which weights are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// As the argument names it.
    pub name: &'static str,
    about: &'static str,
    /// The layout of the weights.
    pub layout: WeightLayout,
}

impl Target {
    /// Every target there is; each layout has one.
    pub const ALL: [Self; 7] = [
        Self { name: "portable", about: "Row-major, read everywhere", layout: WeightLayout::RowMajor },
        Self { name: "x86-64-avx512vnni", about: "x86-64 with AVX-512 VNNI", layout: WeightLayout::Vnni16x4 },
        Self { name: "x86-64-avxvnni", about: "x86-64 with AVX-VNNI: the same", layout: WeightLayout::Vnni16x4 },
        Self { name: "x86-64-avx2", about: "x86-64 with AVX2: the same", layout: WeightLayout::Vnni16x4 },
        Self { name: "aarch64-dotprod", about: "AArch64 with dot products: the same", layout: WeightLayout::Vnni16x4 },
        Self { name: "aarch64-i8mm", about: "AArch64 with int8 matrix products", layout: WeightLayout::I8mm16x8 },
        Self { name: "cortex-m55", about: "Cortex-M55 and others with Helium", layout: WeightLayout::Helium4x16 },
    ];

    /// The first target of a layout.
    pub fn of(layout: WeightLayout) -> Self {
        Self::ALL.into_iter().find(|target| target.layout == layout).unwrap_or_default()
    }
}

impl Default for Target {
    fn default() -> Self {
        Self::ALL[0]
    }
}

impl ValueEnum for Target {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name).help(self.about))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layout_has_a_target() {
        for layout in WeightLayout::ALL {
            assert_eq!(Target::of(layout).layout, layout);
        }
    }
}
