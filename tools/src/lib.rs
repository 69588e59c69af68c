//! Converts, inspects, runs and compares multilingual BERT models.

pub mod convert {
    //! From a checkpoint to a blob.
    pub mod vocab;
}
