//! Files of weights: names of both kinds, what is turned, kinds of numbers, and what is refused.

use std::collections::BTreeMap;

use safetensors::tensor::TensorView;

use super::*;

fn file(tensors: &[(&str, Dtype, &[usize], Vec<u8>)]) -> Vec<u8> {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (
            *name,
            TensorView::new(*dtype, shape.to_vec(), bytes).unwrap(),
        )
    });
    let views: BTreeMap<&str, TensorView<'_>> = views.collect();
    safetensors::serialize(views, None).unwrap()
}

fn f32s(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn spec(within: Option<&str>, head: Head) -> WeightsSpec {
    WeightsSpec {
        url: "file:///w.safetensors".to_owned(),
        within: within.map(str::to_owned),
        head,
    }
}

fn weights(tensors: &[(&str, Dtype, &[usize], Vec<u8>)]) -> Weights {
    Weights::parse(spec(None, Head::Keep), &file(tensors)).unwrap()
}

fn wanted<'a>(name: &'a str, shape: &'a [usize]) -> Wanted<'a> {
    Wanted {
        name,
        shape,
        transposed: false,
        of_head: false,
    }
}

const F32: Dtype = Dtype::F32;

#[test]
fn a_state_dict_of_pytorch_fits() {
    let found = weights(&[
        ("conv1.weight", F32, &[2, 1, 1, 1], f32s(&[1.0, 2.0])),
        ("bn1.weight", F32, &[2], f32s(&[3.0, 4.0])),
        ("bn1.bias", F32, &[2], f32s(&[5.0, 6.0])),
        ("bn1.running_mean", F32, &[2], f32s(&[7.0, 8.0])),
        ("bn1.running_var", F32, &[2], f32s(&[9.0, 10.0])),
        (
            "bn1.num_batches_tracked",
            Dtype::I64,
            &[],
            3i64.to_le_bytes().to_vec(),
        ),
        (
            "fc.weight",
            F32,
            &[2, 3],
            f32s(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        ),
    ]);
    let dense = Wanted {
        transposed: true,
        ..wanted("fc.kernel", &[3, 2])
    };
    let taken = found
        .fit(&[
            wanted("conv1.kernel", &[2, 1, 1, 1]),
            wanted("bn1.gamma", &[2]),
            wanted("bn1.beta", &[2]),
            wanted("bn1.moving_mean", &[2]),
            wanted("bn1.moving_variance", &[2]),
            dense,
        ])
        .unwrap();
    let taken: Vec<Vec<f32>> = taken.into_iter().flatten().collect();
    assert_eq!(
        taken[..5],
        [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0], [9.0, 10.0]]
    );
    assert_eq!(taken[5], [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
}

#[test]
fn a_checkpoint_of_ones_own_fits_as_it_is() {
    let found = weights(&[
        ("model/0.dense.kernel", F32, &[1, 2], f32s(&[1.0, 2.0])),
        (
            "optimizer/0.dense.kernel/m",
            F32,
            &[1, 2],
            f32s(&[0.0, 0.0]),
        ),
    ]);
    let dense = Wanted {
        transposed: true,
        ..wanted("0.dense.kernel", &[1, 2])
    };
    assert_eq!(found.fit(&[dense]).unwrap(), [Some(vec![1.0, 2.0])]);
}

#[test]
fn other_kinds_of_numbers_become_f32() {
    let found = weights(&[
        ("a.bias", Dtype::F64, &[1], 1.5f64.to_le_bytes().to_vec()),
        (
            "b.bias",
            Dtype::F16,
            &[1],
            f16::from_f32(-2.5).to_le_bytes().to_vec(),
        ),
        (
            "c.bias",
            Dtype::BF16,
            &[1],
            bf16::from_f32(3.0).to_le_bytes().to_vec(),
        ),
    ]);
    let all = ["a.bias", "b.bias", "c.bias"].map(|name| wanted(name, &[1]));
    let taken = found.fit(&all).unwrap();
    assert_eq!(taken, [Some(vec![1.5]), Some(vec![-2.5]), Some(vec![3.0])]);
}

#[test]
fn a_new_head_and_a_part_of_a_network_are_left_as_they_are() {
    let bytes = file(&[
        ("conv1.weight", F32, &[1], f32s(&[1.0])),
        ("fc.weight", F32, &[1000, 4], f32s(&[0.0; 4000])),
    ]);
    let head = Wanted {
        transposed: true,
        of_head: true,
        ..wanted("fc.kernel", &[4, 10])
    };
    let new = Weights::parse(spec(None, Head::New), &bytes).unwrap();
    let taken = new.fit(&[wanted("conv1.kernel", &[1]), head]).unwrap();
    assert_eq!(taken, [Some(vec![1.0]), None]);
    let kept = Weights::parse(spec(None, Head::Keep), &bytes).unwrap();
    let error = kept.fit(&[head]).unwrap_err();
    assert!(
        error.contains("`fc.kernel` has the shape [10, 4], and the file's [1000, 4]"),
        "{error}"
    );
    assert!(error.contains("head: new"), "{error}");

    let within = Weights::parse(spec(Some("backbone"), Head::Keep), &bytes).unwrap();
    let taken = within.fit(&[
        wanted("backbone.conv1.kernel", &[1]),
        wanted("1.dense.kernel", &[4, 10]),
    ]);
    assert_eq!(taken.unwrap(), [Some(vec![1.0]), None]);
    let error = within.fit(&[wanted("conv1.kernel", &[1])]).unwrap_err();
    assert!(error.contains("no layer `backbone`"), "{error}");
}

#[test]
fn what_does_not_fit_is_told() {
    let found = weights(&[("layer1.0.conv1.weight", F32, &[1], f32s(&[1.0]))]);
    let error = found
        .fit(&[wanted("layer1.0.conv2.kernel", &[1])])
        .unwrap_err();
    assert_eq!(
        error,
        "the file has no `layer1.0.conv2.weight` for `layer1.0.conv2.kernel`; did you mean `layer1.0.conv1.weight`?; it has \
         layer1.0.conv1.weight, ..."
    );
    let names: Vec<String> = (0..9).map(|at| format!("{at}.dense.kernel")).collect();
    let many: Vec<Wanted<'_>> = names.iter().map(|name| wanted(name, &[1])).collect();
    let error = found.fit(&many).unwrap_err();
    assert!(
        error.contains("; and 6 more; it has layer1.0.conv1.weight"),
        "{error}"
    );
    for (bytes, told) in [
        (
            b"PK\x03\x04 a zip file, as torch.save writes".to_vec(),
            "no safetensors file",
        ),
        (Vec::new(), "no safetensors file"),
        (
            file(&[("a", Dtype::I64, &[1], vec![0; 8])]),
            "no tensors of f32",
        ),
    ] {
        let error = Weights::parse(spec(None, Head::Keep), &bytes).unwrap_err();
        assert!(error.contains(told), "{error}");
    }
}
