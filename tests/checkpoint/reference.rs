//! The float reference on such checkpoints.

use mbert::reference::ReferenceBert;
use mbert_runtime::config::HiddenAct;
use serde_json::json;

use crate::{opened, tiny, with_config};

#[test]
fn both_names_of_the_tanh_form_compute_the_same_and_nearly_what_erf_does() {
    let last = |activation: HiddenAct| {
        let model = ReferenceBert::load(&opened(&with_config("hidden_act", json!(activation.name())))).unwrap();
        model.forward(&[2, 5, 9, 4, 3], &[0; 5]).unwrap().hidden.pop().unwrap()
    };
    let erf = last(HiddenAct::Gelu);
    let worst = |other: &[f32]| erf.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let tanh = last(HiddenAct::GeluNew);
    assert_eq!(tanh, last(HiddenAct::GeluPytorchTanh));
    assert!((1e-6..5e-3).contains(&worst(&tanh)), "{}", worst(&tanh));
    assert!(worst(&last(HiddenAct::Relu)) > 0.02);
}

#[test]
fn sequences_that_the_model_cannot_read_are_refused_by_the_reference() {
    let model = ReferenceBert::load(&opened(&tiny())).unwrap();
    for (input_ids, token_type_ids, expected) in [
        (vec![], vec![], "no tokens"),
        (vec![5; 41], vec![0; 41], "41 tokens, but the model 40 positions"),
        (vec![5, 64], vec![0; 2], "input id 64 at position 1"),
        (vec![5, 6], vec![0, 2], "token type 2 at position 1"),
        (vec![5, 6], vec![0], "2 input_ids, but 1 token_type_ids"),
    ] {
        let error = model.forward(&input_ids, &token_type_ids).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    assert!(model.forward(&[2, 5, 3], &[0; 3]).is_ok());
    assert!(model.prediction_logits(&[0.0; 31]).is_err());
}
