//! Parameters as candle's variables, and as slices.

use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp1, Layout, Storage, Var};

use super::error::ModelError;

/// A trainable tensor: f32, contiguous, on the network's device.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// `<layer's name>.<role>`, of a layer without a name `<position>.<layer>.<role>`: `0.conv2d.kernel` of shape
    /// `[filters, channels, height, width]`, `3.dense.kernel` `[inputs, units]`, `3.dense.bias`
    /// `[units]`, `1.batch_norm.gamma` `[channels]`.
    pub name: String,
    pub var: Var,
    /// Else it stays as it is: it has no gradient.
    pub trained: bool,
}

/// The values of a contiguous f32 tensor on the CPU.
pub(crate) fn cpu_slice<'a>(
    storage: &'a Storage,
    layout: &Layout,
) -> Result<&'a [f32], ModelError> {
    let Storage::Cpu(storage) = storage else {
        return Err(candle_core::Error::Msg("parameter is not on the cpu".to_owned()).into());
    };
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or_else(|| candle_core::Error::Msg("parameter is not contiguous".to_owned()))?;
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// Edits a parameter's storage in place.
pub(crate) fn edit(var: &Var, edit: impl FnMut(&mut [f32])) -> Result<(), ModelError> {
    Ok(var.inplace_op1(&Edit(RefCell::new(edit)))?)
}

struct Edit<F>(RefCell<F>);

impl<F: FnMut(&mut [f32])> InplaceOp1 for Edit<F> {
    fn name(&self) -> &'static str {
        "parameter update"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let CpuStorage::F32(values) = storage else {
            candle_core::bail!("parameter is not f32");
        };
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("parameter is not contiguous");
        };
        (self.0.borrow_mut())(&mut values[start..end]);
        Ok(())
    }
}
