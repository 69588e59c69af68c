//! Smoothing: each input channel of a linear layer is divided by a factor that its weights are multiplied with, so that
//! channels with large activations and channels with large weights share the trouble.
//!
//! `factor = √(max |x_c| / max |w_c|)`: SmoothQuant (Xiao et al. 2022) with α = 0.5.

/// Factors further than this from their geometric mean are cut, so that one dead channel does not cost the others precision.
const LARGEST_RATIO: f64 = 16.0;
const SMALLEST_MAGNITUDE: f64 = 1e-5;

/// The factor of every channel, given the largest magnitudes of its activations and of its weights.
pub fn factors(activations: &[f64], weights: &[f64]) -> Vec<f64> {
    let mut factors: Vec<f64> = activations
        .iter()
        .zip(weights)
        .map(|(x, w)| libm::sqrt(x.max(SMALLEST_MAGNITUDE) / w.max(SMALLEST_MAGNITUDE)))
        .collect();
    let mean = libm::exp(factors.iter().map(|&factor| libm::log(factor)).sum::<f64>() / factors.len() as f64);
    for factor in &mut factors {
        *factor = factor.clamp(mean / LARGEST_RATIO, mean * LARGEST_RATIO);
    }
    factors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outlier_channel_is_divided_more() {
        let factors = factors(&[1.0, 25.0], &[1.0, 1.0]);
        assert!((factors[1] / factors[0] - 5.0).abs() < 1e-12);
    }

    #[test]
    fn dead_channel_is_cut() {
        let factors = factors(&[1.0, 1.0, 1.0, 0.0], &[1.0; 4]);
        assert!(factors[0] / factors[3] < LARGEST_RATIO * 20.0 && factors.iter().all(|f| *f > 0.0));
    }
}
