//! The weights of a linear layer: tiles of 16 output channels, each with its parameters before its weights, so that a layer is read once
//! from its first byte to its last.
//!
//! A tile of n channels and K inputs is `[n, P]` int32, the P parameters of each channel (see
//! [`SectionKind::parameters`](super::section::SectionKind::parameters)), then `[n, K]` int8 in the section's [`WeightLayout`]. The last tile has the channels that are left.
//! Where a layer has parts (query, key and value of a head), each part begins with a tile of its own.

use super::layout::{TILE_CHANNELS, WeightLayout};

/// Where the tiles of a linear layer lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiles {
    /// First byte of the first tile.
    pub offset: u32,
    /// Output channels of one part.
    pub channels: usize,
    /// K: input channels.
    pub inputs: usize,
    /// P: parameters of a channel.
    pub parameters: usize,
    /// Order of the weights in a tile.
    pub layout: WeightLayout,
}

/// One tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Its first byte, where its parameters begin.
    pub offset: u32,
    /// First byte of its weights.
    pub weights: u32,
    /// Its first output channel, from the beginning of the part.
    pub channel: usize,
    /// Its output channels, at most 16.
    pub channels: usize,
}

impl Tiles {
    /// Tiles of one part.
    pub const fn count(&self) -> usize {
        self.channels.div_ceil(TILE_CHANNELS)
    }

    /// Bytes from a tile to the next of its part.
    pub const fn stride(&self) -> usize {
        TILE_CHANNELS * self.channel_bytes()
    }

    /// Bytes of one output channel.
    const fn channel_bytes(&self) -> usize {
        self.inputs + size_of::<i32>() * self.parameters
    }

    /// A tile of a part. One behind the last has no channels.
    pub const fn tile(&self, part: usize, index: usize) -> Tile {
        let channel = index * TILE_CHANNELS;
        let left = self.channels.saturating_sub(channel);
        let channels = if left < TILE_CHANNELS { left } else { TILE_CHANNELS };
        let offset = self.offset as usize + (part * self.channels + channel) * self.channel_bytes();
        let weights = offset + size_of::<i32>() * self.parameters * channels;
        Tile { offset: offset as u32, weights: weights as u32, channel, channels }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_lie_side_by_side_and_parts_begin_anew() {
        let layout = WeightLayout::RowMajor;
        let tiles = Tiles { offset: 64, channels: 26, inputs: 10, parameters: 3, layout };
        assert_eq!(tiles.count(), 2);
        assert_eq!(tiles.tile(0, 0), Tile { offset: 64, weights: 64 + 192, channel: 0, channels: 16 });
        assert_eq!(tiles.tile(0, 1), Tile { offset: 416, weights: 416 + 120, channel: 16, channels: 10 });
        assert_eq!(tiles.tile(1, 0).offset, 416 + 10 * 22);
        assert_eq!(tiles.tile(0, 2).channels, 0);
    }
}
