import type { LazyTensor, TensorData } from './tensor.ts';

/** Name of a tensor inside a graph. */
export type Value = string;

export type ElementType = 'float32' | 'uint8' | 'int8' | 'int32' | 'int64';

/** A number is a dimension known now, a string names one that is known when the model runs. */
export type Dim = number | string;

export type Attribute =
  | { readonly type: 'float'; readonly value: number }
  | { readonly type: 'int'; readonly value: number }
  | { readonly type: 'ints'; readonly value: readonly number[] };

export interface Port {
  readonly name: Value;
  readonly elementType: ElementType;
  readonly dims: readonly Dim[];
}

export interface Node {
  readonly opType: string;
  readonly domain: string;
  readonly inputs: readonly Value[];
  readonly outputs: readonly Value[];
  readonly attributes: Readonly<Record<string, Attribute>>;
}

export interface Initializer {
  readonly name: Value;
  readonly elementType: ElementType;
  readonly tensor: LazyTensor<TensorData>;
}

interface NodeOptions {
  readonly attributes?: Readonly<Record<string, Attribute>>;
  /** `com.microsoft` for the runtime's own operators. */
  readonly domain?: string;
  /** Name of the output, for one that leaves the graph. */
  readonly name?: Value;
}

export const float = (value: number): Attribute => ({ type: 'float', value });
export const int = (value: number): Attribute => ({ type: 'int', value });
export const ints = (...value: number[]): Attribute => ({ type: 'ints', value });

/** Domain of the runtime's own operators. */
export const MICROSOFT = 'com.microsoft';

/**
 * An ONNX graph that is being written: nodes in the order in which they run, the inputs and
 * outputs of the whole, and the tensors that are part of it.
 */
export class Graph {
  readonly nodes: Node[] = [];
  readonly inputs: Port[] = [];
  readonly outputs: Port[] = [];
  /** Kept in a file of their own. */
  readonly weights: Initializer[] = [];
  /** Small ones, such as shapes, kept in the graph itself. */
  readonly constants: Initializer[] = [];
  readonly #constantByKey = new Map<string, Value>();
  readonly #weightNames = new Set<string>();
  #numValues = 0;

  input(name: string, elementType: ElementType, dims: readonly Dim[]): Value {
    this.inputs.push({ name, elementType, dims });
    return name;
  }

  /** Makes the value of this name leave the graph. */
  output(name: Value, elementType: ElementType, dims: readonly Dim[]): void {
    this.outputs.push({ name, elementType, dims });
  }

  /** Adds a node and returns its first output; the others are optional ones left out. */
  node(opType: string, inputs: readonly Value[], options: NodeOptions = {}): Value {
    const output = options.name ?? this.newValue(opType);
    this.nodeWithOutputs(opType, inputs, [output], options);
    return output;
  }

  /** Adds a node whose outputs are named by the caller; '' leaves an optional one out. */
  nodeWithOutputs(
    opType: string,
    inputs: readonly Value[],
    outputs: readonly Value[],
    { attributes = {}, domain = '' }: NodeOptions = {},
  ): void {
    this.nodes.push({ opType, domain, inputs, outputs, attributes });
  }

  /** Cuts a value into two along `axis`; `sizes` is int64 [2]. */
  splitInTwo(input: Value, sizes: Value, axis: number): [Value, Value] {
    const [first, second] = this.split(input, { sizes, axis, count: 2 });
    return [first!, second!];
  }

  /** Cuts a value into parts along `axis`; `sizes` is int64 [count]. */
  split(
    input: Value,
    { sizes, axis, count }: { sizes: Value; axis: number; count: number },
  ): Value[] {
    const outputs = Array.from({ length: count }, () => this.newValue('part'));
    this.nodeWithOutputs('Split', [input, sizes], outputs, { attributes: { axis: int(axis) } });
    return outputs;
  }

  /** A name that no other value has. */
  newValue(hint: string): Value {
    this.#numValues += 1;
    return `${hint}_${this.#numValues}`;
  }

  /** Adds a weight, or finds it: a tied head names the embedding's. */
  weight(name: string, tensor: LazyTensor): Value {
    return this.storedWeight(name, 'float32', tensor);
  }

  storedWeight(name: string, elementType: ElementType, tensor: LazyTensor<TensorData>): Value {
    if (!this.#weightNames.has(name)) this.weights.push({ name, elementType, tensor });
    this.#weightNames.add(name);
    return name;
  }

  /** A short list of integers, such as the shape a node reshapes to. */
  integers(...values: number[]): Value {
    const key = values.join(',');
    const known = this.#constantByKey.get(key);
    if (known !== undefined) return known;
    const name = `integers_${key.replaceAll(',', '_')}`;
    const load = () => BigInt64Array.from(values, BigInt);
    this.constants.push({ name, elementType: 'int64', tensor: { dims: [values.length], load } });
    this.#constantByKey.set(key, name);
    return name;
  }
}
