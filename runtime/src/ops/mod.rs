//! What is computed: portable, integers only. Order follows the data through a layer.

pub mod fixed_point;
pub mod quantize;
pub mod linear;
pub mod requantize;
pub mod softmax;
pub mod average;
pub mod activation;
pub mod layer_norm;
pub mod log_sum_exp;
pub mod tables;
