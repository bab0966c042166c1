import { type ConfigJson, numberOf } from './checkpoints.ts';

/**
 * Angles by which a head is turned at `position`, straight from the formulas as published, and the
 * factor on cosines and sines. A loop per pair, nothing shared with the runner.
 */
export function ropeAngles(config: ConfigJson, headDim: number, position: number) {
  const scaling = { ...objectOf(config.rope_scaling) };
  const type = String(scaling.rope_type ?? scaling.type ?? 'default');
  const maxTokens = numberOf(config, 'max_position_embeddings');
  const trained = Number(scaling.original_max_position_embeddings ?? maxTokens);
  const factor = Number(scaling.factor ?? 1);
  let theta = numberOf(config, 'rope_theta');
  if (type === 'dynamic' && position + 1 > maxTokens) {
    theta *= ((factor * (position + 1)) / maxTokens - factor + 1) ** (headDim / (headDim - 2));
  }

  const angles: number[] = [];
  for (let i = 0; i < headDim / 2; i += 1) {
    const frequency = 1 / theta ** ((2 * i) / headDim);
    const interpolated = frequency / factor;
    let chosen = frequency;
    if (type === 'linear') chosen = interpolated;
    if (type === 'llama3') {
      const low = Number(scaling.low_freq_factor);
      const high = Number(scaling.high_freq_factor);
      const wavelength = (2 * Math.PI) / frequency;
      const smooth = (trained / wavelength - low) / (high - low);
      if (wavelength > trained / low) chosen = interpolated;
      else if (wavelength >= trained / high) {
        chosen = (1 - smooth) * interpolated + smooth * frequency;
      }
    }
    if (type === 'yarn') {
      const bound = (turns: number) =>
        (headDim * Math.log(trained / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
      const low = Math.max(Math.floor(bound(Number(scaling.beta_fast ?? 32))), 0);
      const high = Math.min(Math.ceil(bound(Number(scaling.beta_slow ?? 1))), headDim - 1);
      const ramp = Math.min(1, Math.max(0, (i - low) / Math.max(high - low, 0.001)));
      chosen = interpolated * ramp + frequency * (1 - ramp);
    }
    angles.push(position * chosen);
  }
  const magnitude = Number(
    scaling.attention_factor ?? (type === 'yarn' ? 0.1 * Math.log(factor) + 1 : 1),
  );
  return { angles, magnitude };
}

function objectOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? { ...value } : {};
}
