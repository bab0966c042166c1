import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { ModelError } from './model-error.ts';
import { SafetensorsFile } from './safetensors.ts';
import type { LazyTensor } from './tensor.ts';

const indexSchema = z.object({ weight_map: z.record(z.string(), z.string()) });

/**
 * All tensors of a checkpoint, in one file or in shards. Remembers which of them were asked for.
 */
export class Weights {
  readonly #files: readonly SafetensorsFile[];
  readonly #fileByName = new Map<string, SafetensorsFile>();
  readonly #used = new Set<string>();

  /** @throws {ModelError} when a file is missing, truncated or corrupt */
  constructor(modelDir: string) {
    const { fileNames, expected } = listFiles(modelDir);
    this.#files = fileNames.map((name) => new SafetensorsFile(join(modelDir, name)));
    for (const file of this.#files) {
      for (const name of file.names) this.#fileByName.set(name, file);
    }
    for (const [name, fileName] of expected) {
      if (this.#fileByName.has(name)) continue;
      throw new ModelError(
        `${join(modelDir, fileName)} lacks tensor ${name} that the index promises; download it again`,
      );
    }
  }

  get paths(): string[] {
    return this.#files.map(({ path }) => path);
  }

  /** How its numbers are stored. */
  get types(): ReadonlySet<string> {
    return new Set(this.#files.flatMap((file) => file.names.map((name) => file.typeOf(name))));
  }

  get numParameters(): number {
    const sizes = this.#files.flatMap((file) => file.names.map((name) => file.sizeOf(name)));
    return sizes.reduce((sum, size) => sum + size, 0);
  }

  has(name: string): boolean {
    return this.#fileByName.has(name);
  }

  /**
   * The tensor `name`, which must have exactly these dimensions.
   *
   * @throws {ModelError} when there is none, or of another shape; when it is loaded, also for
   *   numbers that are not finite
   */
  tensor(name: string, dims: readonly number[]): LazyTensor {
    const file = this.#fileByName.get(name);
    const shape = file?.shapeOf(name);
    if (!file || !shape) throw new ModelError(`the weights lack tensor ${name} [${dims}]`);
    if (shape.length !== dims.length || shape.some((dim, i) => dim !== dims[i])) {
      throw new ModelError(
        `${file.path}: tensor ${name} is [${shape}]; config.json calls for [${dims}]`,
      );
    }
    this.#used.add(name);
    return { dims, load: () => readFinite(file, name) };
  }

  /** Tensors that nothing asked for: the model would not be what its makers trained. */
  get unusedNames(): string[] {
    return [...this.#fileByName.keys()].filter((name) => !this.#used.has(name));
  }

  close(): void {
    for (const file of this.#files) file.close();
  }
}

/** One number that is none makes all logits none. */
function readFinite(file: SafetensorsFile, name: string): Float32Array {
  const data = file.read(name);
  let sum = 0; // of zeros, unless one comes of a NaN or an infinity
  for (let i = 0; i < data.length; i += 1) sum += data[i]! * 0;
  if (sum === 0) return data;
  throw new ModelError(
    `${file.path} is corrupt: tensor ${name} has numbers that are not finite; download it again`,
  );
}

function listFiles(modelDir: string) {
  const single = 'model.safetensors';
  const index = 'model.safetensors.index.json';
  if (existsSync(join(modelDir, single))) return { fileNames: [single], expected: [] };
  if (!existsSync(join(modelDir, index))) {
    throw new ModelError(
      `${modelDir} has neither ${single} nor ${index}; only safetensors weights are supported`,
    );
  }
  try {
    const { weight_map: map } = indexSchema.parse(
      JSON.parse(readFileSync(join(modelDir, index), 'utf8')),
    );
    return { fileNames: [...new Set(Object.values(map))].sort(), expected: Object.entries(map) };
  } catch (cause) {
    throw new ModelError(`${join(modelDir, index)} is corrupt; download it again`, { cause });
  }
}
