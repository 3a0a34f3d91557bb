//! Options for reading a table.

/// Options for reading a table.
#[derive(Clone, Debug, Default)]
pub struct TableOptions<'a> {
    /// Separator between columns; `None` detects it in the first lines.
    pub separator: Option<u8>,
    pub header: HeaderRow,
    pub features: Features<'a>,
    /// Columns to exclude from the features, as a list of names and numbers.
    pub dropped: Option<&'a str>,
    /// Column of labels that an option asks for, by name or number.
    pub label: Option<&'a str>,
    /// Column of labels of the data that the model was trained on: its name or, without a header, its
    /// number. It is used without `label` if the table has it; its cells may be empty.
    pub usual_label: Option<&'a str>,
    /// True if the model needs that column and each of its labels.
    pub label_required: bool,
    /// True if the labels are in another file, so that those of the table are not read.
    pub labels_apart: bool,
    /// True if the columns are those of a trained model, so that messages suggest no option for them.
    pub fixed: bool,
}

/// Treatment of the first line.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum HeaderRow {
    Yes,
    No,
    /// The cells of the line decide.
    #[default]
    Auto,
}

/// Selection of the feature columns.
#[derive(Clone, Copy, Debug, Default)]
pub enum Features<'a> {
    /// All columns but the label.
    #[default]
    All,
    /// A list of names and numbers.
    Listed(&'a str),
    /// The columns of the training data; without a header (`named` is false), their names are numbers from 1 on.
    OfModel {
        names: &'a [String],
        named: bool,
        /// Number of columns in the table without a header, if it is known.
        width: Option<usize>,
    },
}
