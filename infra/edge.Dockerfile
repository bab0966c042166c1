# The edge: no model, no onnxruntime. Build from the repository's root: docker build -f infra/edge.Dockerfile .
FROM node:24-bookworm-slim
ENV NODE_ENV=production ONNXRUNTIME_NODE_INSTALL=skip
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --omit=optional --ignore-scripts \
  && rm -rf node_modules/onnxruntime-node \
  && npm cache clean --force
COPY shared shared
COPY edge edge
USER node
EXPOSE 8787
HEALTHCHECK --interval=5s --start-period=10s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT ?? 8787}/healthz`).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "edge/node.ts"]
