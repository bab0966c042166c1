/** A model directory that cannot be served: which file, what was expected, what to do. One line. */
export class ModelError extends Error {
  override readonly name = 'ModelError';
}
