import type { ModelConfig } from './config.ts';
import type { Graph } from './graph.ts';
import type { Weights } from './weights.ts';

/**
 * How weights are stored and multiplied: as floats, as int8 with a scale per output, or as blocks
 * of 8- or 4-bit numbers with a scale each.
 */
export const WEIGHT_FORMATS = ['fp32', 'int8', 'q8', 'q4'] as const;

export type WeightFormat = (typeof WEIGHT_FORMATS)[number];

/** What runs the graph: not every operator exists on each. */
export type ExecutionProvider = 'cpu' | 'webgpu';

/** What the parts of an architecture pass along while they write its graph. */
export interface Builder {
  readonly graph: Graph;
  readonly config: ModelConfig;
  readonly weights: Weights;
  readonly executionProvider: ExecutionProvider;
  readonly weightFormat: WeightFormat;
  /** Parts that queries sharing a key-value head are cut into; see `planThreads`. */
  readonly groupParts: number;
  /** Whether tokens may look at sinks, from another place than they look at all else. */
  readonly hasSinks: boolean;
}
