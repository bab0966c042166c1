import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { join } from 'node:path';
import { buildGpt2 } from './architectures/gpt2.ts';
import { buildLlama } from './architectures/llama.ts';
import type { Builder, ExecutionProvider, WeightFormat } from './builder.ts';
import type { Checkpoint } from './checkpoint.ts';
import { hasSinks } from './config.ts';
import { Graph } from './graph.ts';
import { ModelError } from './model-error.ts';
import { GRAPH_FILE, WEIGHTS_FILE, writeGraph } from './onnx-file.ts';
import { isSealed, seal } from './seal.ts';

/**
 * Raised with every change of what is written, so that older files are not used, and workers of
 * both releases not taken for each other.
 */
export const GRAPH_VERSION = 5;
const PARTIAL = 'partial-';
const STALE_MS = 3_600_000; // nobody who lives writes nothing for an hour

export interface GraphRequest {
  readonly checkpoint: Checkpoint;
  /** Of the checkpoint's files. */
  readonly digest: string;
  readonly cacheDir: string;
  readonly executionProvider: ExecutionProvider;
  readonly weightFormat: WeightFormat;
  readonly groupParts: number;
}

/**
 * Path of the ONNX graph of a checkpoint, written at first use. A directory appears under its
 * name only when all of it is on the disk, and is used only while its files are what was written;
 * otherwise it is written again.
 *
 * @throws {ModelError} when the weights are not those of the architecture
 */
export function ensureGraph(request: GraphRequest): string {
  const { digest, cacheDir, executionProvider, weightFormat, groupParts } = request;
  const key = createHash('sha256')
    .update(JSON.stringify([GRAPH_VERSION, digest, executionProvider, weightFormat, groupParts]))
    .digest('hex')
    .slice(0, 32);
  const graphsDir = join(cacheDir, 'graphs');
  const directory = join(graphsDir, key);
  if (isSealed(directory)) return join(directory, GRAPH_FILE);

  mkdirSync(graphsDir, { recursive: true });
  removeStale(graphsDir);
  const partial = mkdtempSync(join(graphsDir, PARTIAL));
  try {
    writeGraph(buildGraph(request), partial);
    seal(partial, [GRAPH_FILE, WEIGHTS_FILE]);
    publish(partial, directory);
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
  return join(directory, GRAPH_FILE);
}

/** @throws {ModelError} when the weights are not those of the architecture */
export function buildGraph(request: Omit<GraphRequest, 'digest' | 'cacheDir'>): Graph {
  const { checkpoint, executionProvider, weightFormat, groupParts } = request;
  const { config, weights } = checkpoint;
  const graph = new Graph();
  const builder: Builder = {
    graph,
    config,
    weights,
    executionProvider,
    weightFormat,
    groupParts,
    hasSinks: hasSinks(config, executionProvider),
  };
  if (config.architecture === 'GPT2LMHeadModel') buildGpt2(builder);
  else buildLlama(builder);

  const unknown = weights.unusedNames.filter((name) => !isRedundant(name, config.isHeadTied));
  if (unknown.length > 0) {
    throw new ModelError(
      `${checkpoint.modelDir}: tensor ${unknown[0]} has no place in ${config.architecture}` +
        ` (${unknown.length} such tensors); the checkpoint is of a kind that is not supported`,
    );
  }
  return graph;
}

/** Tensors that some checkpoints store though they follow from others or from the config. */
function isRedundant(name: string, isHeadTied: boolean): boolean {
  if (isHeadTied && name === 'lm_head.weight') return true;
  return /\.rotary_emb\.inv_freq$|(^|\.)h\.\d+\.attn\.(bias|masked_bias)$/.test(name);
}

/** Renames `partial` into place, unless another process was first with a complete one. */
function publish(partial: string, directory: string): void {
  if (existsSync(directory) && !isSealed(directory)) {
    rmSync(directory, { recursive: true, force: true });
  }
  try {
    renameSync(partial, directory);
  } catch (error) {
    if (!isSealed(directory)) throw error;
  }
}

function removeStale(graphsDir: string): void {
  for (const name of readdirSync(graphsDir)) {
    if (!name.startsWith(PARTIAL)) continue;
    const path = join(graphsDir, name);
    if (Date.now() - lastWriteMs(path) > STALE_MS) rmSync(path, { recursive: true, force: true });
  }
}

/** A directory itself does not change while its files grow. */
function lastWriteMs(directory: string): number {
  const files = [GRAPH_FILE, WEIGHTS_FILE].map((name) => join(directory, name));
  const times = [directory, ...files].map(
    (path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0,
  );
  return Math.max(...times);
}
