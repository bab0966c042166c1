import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { buildGpt2 } from './architectures/gpt2.ts';
import { buildLlama } from './architectures/llama.ts';
import type { Builder, ExecutionProvider, WeightFormat } from './builder.ts';
import type { Checkpoint } from './checkpoint.ts';
import { hasSinks } from './config.ts';
import { Graph } from './graph.ts';
import { ModelError } from './model-error.ts';
import { GRAPH_FILE, WEIGHTS_FILE, writeGraph } from './onnx-file.ts';

/**
 * Raised with every change of what is written, so that older files are not used, and workers of
 * both releases not taken for each other.
 */
export const GRAPH_VERSION = 5;
const MARKER_FILE = 'complete.json';
const STALE_MS = 3_600_000; // no write takes an hour: its process is gone

const markerSchema = z.record(z.string(), z.int().positive());

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
 * name only when all of it is there, and is used only while its files have the sizes they were
 * written with; otherwise it is written again.
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
  if (isComplete(directory)) return join(directory, GRAPH_FILE);

  mkdirSync(graphsDir, { recursive: true });
  removeStale(graphsDir);
  const partial = mkdtempSync(join(graphsDir, 'partial-'));
  try {
    writeGraph(buildGraph(request), partial);
    writeMarker(partial);
    publish(partial, directory);
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
  return join(directory, GRAPH_FILE);
}

function buildGraph(request: GraphRequest): Graph {
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

function writeMarker(directory: string): void {
  const sizes = [GRAPH_FILE, WEIGHTS_FILE].map((name) => [name, fileBytes(join(directory, name))]);
  writeFileSync(join(directory, MARKER_FILE), JSON.stringify(Object.fromEntries(sizes)));
}

function fileBytes(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

function isComplete(directory: string): boolean {
  const path = join(directory, MARKER_FILE);
  if (!existsSync(path)) return false;
  const marker = markerSchema.safeParse(parseJson(readFileSync(path, 'utf8')));
  if (!marker.success) return false;
  return [GRAPH_FILE, WEIGHTS_FILE].every(
    (name) => marker.data[name] === fileBytes(join(directory, name)),
  );
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null; // a marker cut short by a crash: the directory is not complete
  }
}

/** Renames `partial` into place, unless another process was first with a complete one. */
function publish(partial: string, directory: string): void {
  if (existsSync(directory) && !isComplete(directory)) {
    rmSync(directory, { recursive: true, force: true });
  }
  try {
    renameSync(partial, directory);
  } catch (error) {
    if (!isComplete(directory)) throw error;
  }
}

function removeStale(graphsDir: string): void {
  for (const name of readdirSync(graphsDir)) {
    if (!name.startsWith('partial-')) continue;
    const path = join(graphsDir, name);
    const changedMs = statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now();
    if (Date.now() - changedMs > STALE_MS) rmSync(path, { recursive: true, force: true });
  }
}
