//! The arithmetic above the kernels.
#![no_std]
#![no_main]

use mbert_runtime::config::{BertConfig, HiddenAct};
use mbert_runtime::heads::top_k::{TokenLogit, TopK};
use mbert_runtime::ops::activation::{activate_tile, delta_table, tanh};
use mbert_runtime::ops::average::{Divisor, average_row};
use mbert_runtime::ops::log_sum_exp::LogSumExp;
use mbert_runtime::ops::quantize::{largest_i16, quantize_i16, quantize_i32, quantize_smoothed};
use mbert_runtime::ops::requantize::{Requantizer, add_residual, requantize, scale_accumulators};
use mbert_runtime::ops::softmax::{SoftmaxScale, softmax_row};
use no_panic::{any, look, some};

/// Where the linker starts.
#[unsafe(no_mangle)]
pub extern "C" fn _start() {
    let config: BertConfig = *any();
    look((config.check(), config.head_dim()));

    let delta = delta_table(*any::<HiddenAct>());
    let requantizer = Requantizer {
        scales: any::<bool>().then(|| &*some()),
        accumulator_shift: *any(),
        shifts: some(),
        output_shift: *any(),
        bias: any(),
        multiplier: any(),
    };
    activate_tile(delta, some(), &requantizer, *any(), any(), some(), *any());
    look(tanh(*any()));

    scale_accumulators(some(), some(), *any(), some());
    requantize(some(), &requantizer);
    add_residual(some(), &requantizer, *any(), any(), some(), *any());

    look((largest_i16(some()), quantize_i16(some(), *any(), some())));
    look((quantize_i32(some(), some()), quantize_smoothed(some(), some(), some())));

    let scale = SoftmaxScale { multiplier: *any(), exponent: *any() };
    look(softmax_row(some(), some(), scale.row(*any(), *any(), *any()), some()));
    average_row(some(), Divisor::new(*any()), some(), some());

    let mut best: TopK<[TokenLogit; 5]> = TopK::default();
    let mut in_slice = TopK::new(some::<TokenLogit>());
    let mut sum: LogSumExp = any::<LogSumExp>().clone();
    for &logit in some::<TokenLogit>().iter() {
        best.push(logit);
        in_slice.push(logit);
        sum.add(logit.logit);
    }
    sum.merge(any());
    look((best.as_slice(), in_slice.as_slice(), sum.ratio(*any()).q31()));
}
