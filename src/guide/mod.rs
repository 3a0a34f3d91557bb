//! The guide: pages about the VAE loss, the library, the tool and the exchange of models with
//! PyTorch and ONNX.
//!
//! | page | content |
//! |---|---|
//! | [`loss`] | the VAE loss, term by term: how to choose an objective and recognize a bad choice |
//! | [`library`] | a whole model, and single kernels on your own arrays |
//! | [`tool`] | the command-line tool: data formats, scaling, long runs, objectives, scores |
//! | [`ranks`] | training on several processes or machines with MPI |
//! | [`promises`] | each promise of the library and the tool, and the test that holds it |
//! | [`exchange`] | model files in PyTorch, other state dicts, ONNX |

#[doc = include_str!("exchange.md")]
pub mod exchange {}
#[doc = include_str!("library.md")]
pub mod library {}
#[doc = include_str!("loss.md")]
pub mod loss {}
#[doc = include_str!("promises.md")]
pub mod promises {}
#[doc = include_str!("ranks.md")]
pub mod ranks {}
#[doc = include_str!("tool.md")]
pub mod tool {}
