//! A graph under construction: nodes in the order in which they run, and the tensors they use.

use super::messages::{
    AttributeProto, DOUBLE, DimensionProto, FLOAT, GraphProto, NodeProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};

#[derive(Default)]
pub struct Graph {
    proto: GraphProto,
    /// Where names of nodes and tensors start: what part of the model they belong to.
    scope: String,
}

/// An attribute of a node.
pub enum Attribute {
    Float(&'static str, f32),
    Int(&'static str, i64),
    Text(&'static str, &'static str),
}

impl Graph {
    /// What comes next belongs to this part of the model.
    pub fn enter(&mut self, scope: impl Into<String>) {
        self.scope = scope.into();
    }

    /// An input of so many columns and any number of rows.
    pub fn input(&mut self, name: &str, columns: usize, what: &str) -> String {
        self.proto.input.push(matrix(name, columns, what));
        name.to_owned()
    }

    /// A constant under its own name.
    pub fn tensor<'a>(
        &mut self,
        name: String,
        shape: &[usize],
        values: impl IntoIterator<Item = &'a f32>,
    ) -> String {
        self.proto.initializer.push(TensorProto {
            dims: shape.iter().map(|&n| n as i64).collect(),
            data_type: FLOAT,
            name: name.clone(),
            raw_data: values.into_iter().flat_map(|value| value.to_le_bytes()).collect(),
        });
        name
    }

    /// A constant of float64, one for each column, of the part of the model that was entered.
    pub fn wide_tensor(&mut self, name: &str, values: &[f64]) -> String {
        let name = format!("{}/{name}", self.scope);
        self.proto.initializer.push(TensorProto {
            dims: vec![values.len() as i64],
            data_type: DOUBLE,
            name: name.clone(),
            raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        });
        name
    }

    /// A constant number; each number is there once.
    pub fn number(&mut self, value: f32) -> String {
        let name = format!("number {value}");
        if self.proto.initializer.iter().any(|tensor| tensor.name == name) {
            return name;
        }
        self.tensor(name, &[], &[value])
    }

    /// A node without attributes, and the name of what it gives.
    pub fn node(&mut self, operator: &str, inputs: &[&str]) -> String {
        self.node_with(operator, inputs, &[])
    }

    /// A node, and the name of what it gives.
    pub fn node_with(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: &[Attribute],
    ) -> String {
        let plain = format!("{}/{operator}", self.scope);
        let taken = |name: &str| self.proto.node.iter().any(|node| node.name == name);
        let name = (2..).map(|i| format!("{plain}_{i}")).find(|name| !taken(name));
        let name = if taken(&plain) { name.expect("names without end") } else { plain };
        self.proto.node.push(NodeProto {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![name.clone()],
            name: name.clone(),
            op_type: operator.to_owned(),
            attribute: attributes.iter().map(Attribute::message).collect(),
        });
        name
    }

    /// The finished graph, whose output is what the last node gives, under this name.
    pub fn finish(mut self, graph: &str, name: &str, columns: usize, what: &str) -> GraphProto {
        let last = self.proto.node.last_mut().expect("a model has layers");
        last.output = vec![name.to_owned()];
        self.proto.output.push(matrix(name, columns, what));
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

/// Any number of rows, `rows`, of so many columns.
fn matrix(name: &str, columns: usize, what: &str) -> ValueInfoProto {
    let rows = DimensionProto { dim_param: Some("rows".to_owned()), dim_value: None };
    let columns = DimensionProto { dim_param: None, dim_value: Some(columns as i64) };
    let shape = TensorShapeProto { dim: vec![rows, columns] };
    let tensor = TensorTypeProto { elem_type: FLOAT, shape: Some(shape) };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto { tensor_type: Some(tensor) }),
        doc_string: what.to_owned(),
    }
}
