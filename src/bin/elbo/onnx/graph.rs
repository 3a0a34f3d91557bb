//! A graph under construction: nodes in execution order, and the tensors they use.

use super::messages::{
    AttributeProto, DOUBLE, DimensionProto, FLOAT, GraphProto, NodeProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};

#[derive(Default)]
pub struct Graph {
    proto: GraphProto,
    /// Prefix of the names of nodes and tensors: the current part of the model.
    scope: String,
}

/// An attribute of a node.
pub enum Attribute {
    Float(&'static str, f32),
    Int(&'static str, i64),
    Text(&'static str, &'static str),
}

impl Graph {
    /// Starts a part of the model, to which all further nodes and tensors belong.
    pub fn enter(&mut self, scope: impl Into<String>) {
        self.scope = scope.into();
    }

    /// Adds a float32 input of any number of rows and returns its name.
    pub fn input(&mut self, name: &str, columns: usize, what: &str) -> String {
        self.typed_input(name, columns, what, FLOAT)
    }

    /// Adds an input of any number of rows and an element type and returns its name.
    pub fn typed_input(&mut self, name: &str, columns: usize, what: &str, of: i32) -> String {
        self.proto.input.push(matrix(name, columns, what, of));
        name.to_owned()
    }

    /// Adds a float32 constant under its full name, which it returns.
    pub fn tensor<'a>(
        &mut self,
        name: String,
        shape: &[usize],
        values: impl IntoIterator<Item = &'a f32>,
    ) -> String {
        let bytes = values.into_iter().flat_map(|value| value.to_le_bytes());
        self.initializer(name, shape, FLOAT, bytes.collect())
    }

    /// Adds a float64 constant, one value per column, to the current part of the model.
    pub fn wide_tensor(&mut self, name: &str, values: &[f64]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        let name = format!("{}/{name}", self.scope);
        self.initializer(name, &[values.len()], DOUBLE, bytes.collect())
    }

    fn initializer(
        &mut self,
        name: String,
        shape: &[usize],
        data_type: i32,
        raw_data: Vec<u8>,
    ) -> String {
        let dims = shape.iter().map(|&n| n as i64).collect();
        self.proto.initializer.push(TensorProto { dims, data_type, name: name.clone(), raw_data });
        name
    }

    /// Adds a scalar constant, unless the graph has it already.
    pub fn number(&mut self, value: f32) -> String {
        let name = format!("number {value}");
        if self.proto.initializer.iter().any(|tensor| tensor.name == name) {
            return name;
        }
        self.tensor(name, &[], &[value])
    }

    /// Adds a node without attributes and returns the name of its output.
    pub fn node(&mut self, operator: &str, inputs: &[&str]) -> String {
        self.node_with(operator, inputs, &[])
    }

    /// Adds a node and returns the name of its output.
    pub fn node_with(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: &[Attribute],
    ) -> String {
        let plain = format!("{}/{operator}", self.scope);
        let taken = |name: &str| self.proto.node.iter().any(|node| node.name == name);
        let name = (2..).map(|i| format!("{plain}_{i}")).find(|name| !taken(name));
        let name = if taken(&plain) { name.expect("an unused number") } else { plain };
        self.proto.node.push(NodeProto {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![name.clone()],
            name: name.clone(),
            op_type: operator.to_owned(),
            attribute: attributes.iter().map(Attribute::message).collect(),
        });
        name
    }

    /// Names the output of the last node and returns the finished graph, whose output it is.
    pub fn finish(
        mut self,
        graph: &str,
        name: &str,
        columns: usize,
        what: &str,
        of: i32,
    ) -> GraphProto {
        let last = self.proto.node.last_mut().expect("a model has layers");
        last.output = vec![name.to_owned()];
        self.proto.output.push(matrix(name, columns, what, of));
        self.proto.name = graph.to_owned();
        self.proto
    }
}

impl Attribute {
    fn message(&self) -> AttributeProto {
        let of = |name: &str, r#type| AttributeProto {
            name: name.to_owned(),
            r#type,
            ..AttributeProto::default()
        };
        match *self {
            Self::Float(name, f) => AttributeProto { f: Some(f), ..of(name, 1) },
            Self::Int(name, i) => AttributeProto { i: Some(i), ..of(name, 2) },
            Self::Text(name, text) => {
                AttributeProto { s: Some(text.as_bytes().to_vec()), ..of(name, 3) }
            }
        }
    }
}

/// The type of a matrix with the symbolic number of rows `rows` and elements of type `of`.
fn matrix(name: &str, columns: usize, what: &str, of: i32) -> ValueInfoProto {
    let rows = DimensionProto { dim_param: Some("rows".to_owned()), dim_value: None };
    let columns = DimensionProto { dim_param: None, dim_value: Some(columns as i64) };
    let shape = TensorShapeProto { dim: vec![rows, columns] };
    let tensor = TensorTypeProto { elem_type: of, shape: Some(shape) };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto { tensor_type: Some(tensor) }),
        doc_string: what.to_owned(),
    }
}
