import { closeSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { invariant } from '../../shared/assert.ts';
import type { Attribute, ElementType, Graph, Initializer, Node, Port } from './graph.ts';
import { MICROSOFT } from './graph.ts';
import type { TensorData } from './tensor.ts';

/** Files of a written graph, in its directory. */
export const GRAPH_FILE = 'model.onnx';
export const WEIGHTS_FILE = 'weights.bin';

const IR_VERSION = 10;
const OPSET = 24; // the first with TensorScatter
const PAGE_BYTES = 4096; // weights are mapped into memory by pages

const DATA_TYPE = { float32: 1, uint8: 2, int8: 3, int32: 6, int64: 7 } as const;
const ATTRIBUTE_TYPE = { float: 1, int: 2, ints: 7 } as const;

interface Extent {
  readonly offset: number;
  readonly numBytes: number;
}

/** Writes a graph and its weights, one weight in memory at a time, into an existing directory. */
export function writeGraph(graph: Graph, directory: string): void {
  const extents = writeWeights(graph.weights, join(directory, WEIGHTS_FILE));
  writeFileSync(join(directory, GRAPH_FILE), encodeModel(graph, extents));
}

function writeWeights(weights: readonly Initializer[], path: string): Map<string, Extent> {
  const extents = new Map<string, Extent>();
  const file = openSync(path, 'wx');
  try {
    let end = 0;
    for (const { name, tensor } of weights) {
      const data = tensor.load();
      const numElements = tensor.dims.reduce((product, dim) => product * dim, 1);
      invariant(
        data.length === numElements,
        `${name} has ${data.length} of ${numElements} numbers`,
      );
      const offset = Math.ceil(end / PAGE_BYTES) * PAGE_BYTES;
      writeAll(file, data, offset);
      extents.set(name, { offset, numBytes: data.byteLength });
      end = offset + data.byteLength;
    }
  } finally {
    closeSync(file);
  }
  return extents;
}

function writeAll(file: number, data: TensorData, offset: number): void {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  let done = 0;
  while (done < bytes.length) {
    const length = Math.min(bytes.length - done, 2 ** 30);
    done += writeSync(file, bytes, done, length, offset + done);
  }
}

/** The graph as a `ModelProto`; numbers of fields are those of the ONNX schema. */
function encodeModel(graph: Graph, extents: ReadonlyMap<string, Extent>): Uint8Array {
  const writer = new BinaryWriter();
  writer.tag(1, WireType.Varint).int64(IR_VERSION);
  writer.tag(2, WireType.LengthDelimited).string('rivulet');
  message(writer, 7, () => {
    for (const node of graph.nodes) message(writer, 1, () => writeNode(writer, node));
    writer.tag(2, WireType.LengthDelimited).string('model');
    for (const constant of graph.constants) {
      message(writer, 5, () => writeConstant(writer, constant));
    }
    for (const weight of graph.weights) {
      const extent = extents.get(weight.name);
      invariant(extent !== undefined, `weight ${weight.name} was not written`);
      message(writer, 5, () => writeExternal(writer, weight, extent));
    }
    for (const port of graph.inputs) message(writer, 11, () => writePort(writer, port));
    for (const port of graph.outputs) message(writer, 12, () => writePort(writer, port));
  });
  writeOpset(writer, '', OPSET);
  writeOpset(writer, MICROSOFT, 1);
  return writer.finish();
}

function message(writer: BinaryWriter, field: number, body: () => void): void {
  writer.tag(field, WireType.LengthDelimited).fork();
  body();
  writer.join();
}

function writeOpset(writer: BinaryWriter, domain: string, version: number): void {
  message(writer, 8, () => {
    writer.tag(1, WireType.LengthDelimited).string(domain);
    writer.tag(2, WireType.Varint).int64(version);
  });
}

function writeNode(writer: BinaryWriter, node: Node): void {
  for (const name of node.inputs) writer.tag(1, WireType.LengthDelimited).string(name);
  for (const name of node.outputs) writer.tag(2, WireType.LengthDelimited).string(name);
  const [output = ''] = node.outputs;
  writer.tag(3, WireType.LengthDelimited).string(`make_${output}`);
  writer.tag(4, WireType.LengthDelimited).string(node.opType);
  for (const [name, attribute] of Object.entries(node.attributes)) {
    message(writer, 5, () => writeAttribute(writer, name, attribute));
  }
  writer.tag(7, WireType.LengthDelimited).string(node.domain);
}

function writeAttribute(writer: BinaryWriter, name: string, attribute: Attribute): void {
  writer.tag(1, WireType.LengthDelimited).string(name);
  switch (attribute.type) {
    case 'float':
      writer.tag(2, WireType.Bit32).float(attribute.value);
      break;
    case 'int':
      writer.tag(3, WireType.Varint).int64(attribute.value);
      break;
    case 'ints':
      for (const value of attribute.value) writer.tag(8, WireType.Varint).int64(value);
      break;
  }
  writer.tag(20, WireType.Varint).int32(ATTRIBUTE_TYPE[attribute.type]);
}

function writePort(writer: BinaryWriter, { name, elementType, dims }: Port): void {
  writer.tag(1, WireType.LengthDelimited).string(name);
  const writeDims = () => {
    for (const dim of dims) {
      message(writer, 1, () => {
        if (typeof dim === 'number') writer.tag(1, WireType.Varint).int64(dim);
        else writer.tag(2, WireType.LengthDelimited).string(dim);
      });
    }
  };
  message(writer, 2, () => {
    message(writer, 1, () => {
      writer.tag(1, WireType.Varint).int32(DATA_TYPE[elementType]);
      message(writer, 2, writeDims);
    });
  });
}

function writeTensorHeader(
  writer: BinaryWriter,
  { name, elementType, tensor }: { name: string; elementType: ElementType; tensor: Shaped },
): void {
  for (const dim of tensor.dims) writer.tag(1, WireType.Varint).int64(dim);
  writer.tag(2, WireType.Varint).int32(DATA_TYPE[elementType]);
  writer.tag(8, WireType.LengthDelimited).string(name);
}

interface Shaped {
  readonly dims: readonly number[];
}

function writeConstant(writer: BinaryWriter, constant: Initializer): void {
  writeTensorHeader(writer, constant);
  const data = constant.tensor.load();
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  writer.tag(9, WireType.LengthDelimited).bytes(bytes);
}

function writeExternal(writer: BinaryWriter, weight: Initializer, extent: Extent): void {
  writeTensorHeader(writer, weight);
  const entries = {
    location: WEIGHTS_FILE,
    offset: String(extent.offset),
    length: String(extent.numBytes),
  };
  for (const [key, value] of Object.entries(entries)) {
    message(writer, 13, () => {
      writer.tag(1, WireType.LengthDelimited).string(key);
      writer.tag(2, WireType.LengthDelimited).string(value);
    });
  }
  writer.tag(14, WireType.Varint).int32(1); // data_location EXTERNAL
}
