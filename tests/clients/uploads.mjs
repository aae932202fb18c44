// Uploads that are refused, by the clients of Node: each prints one line of JSON per length.
//
// Environment: GATEWAY (URL), ROUNDS, LENGTHS (bytes, by commas), NODE_EXTRA_CA_CERTS.

import axios from "axios";
import http2 from "node:http2";
import https from "node:https";

const gateway = process.env.GATEWAY;
const rounds = Number(process.env.ROUNDS);
const lengths = process.env.LENGTHS.split(",").map(Number);

const agent = new https.Agent({ keepAlive: true, maxSockets: 1 });

function overHttps(method, path, body) {
  return new Promise((resolve, reject) => {
    const request = https.request(gateway + path, { method, agent }, (response) => {
      response.resume().on("end", () => resolve(response.statusCode)).on("error", reject);
    });
    request.on("error", reject).end(body);
  });
}

async function overFetch(method, path, body) {
  const response = await fetch(gateway + path, { method, body });
  await response.arrayBuffer();
  return response.status;
}

async function overAxios(method, path, body) {
  const response = await axios.request({
    url: gateway + path, method, data: body, httpsAgent: agent, proxy: false,
    maxBodyLength: Infinity, validateStatus: () => true,
  });
  return response.status;
}

let session;
function overHttp2(method, path, body) {
  if (!session || session.closed || session.destroyed) {
    session = http2.connect(gateway).on("error", () => {});
  }
  return new Promise((resolve, reject) => {
    const stream = session.request({ ":method": method, ":path": path }, { endStream: body === undefined });
    let status;
    stream.on("response", (fields) => { status = fields[":status"]; });
    stream.on("error", reject).on("close", () => resolve(status)).resume();
    if (body !== undefined) stream.end(body);
  });
}

const clients = { https: overHttps, fetch: overFetch, axios: overAxios, http2: overHttp2 };
for (const [client, send] of Object.entries(clients)) {
  for (const length of lengths) {
    const failures = [];
    const body = Buffer.alloc(length, "x");
    for (let round = 0; round < rounds; round += 1) {
      for (const [method, path, expected] of [
        ["POST", "/me", 401], ["GET", "/public/x", 200],
        ["POST", "/tiny", 413], ["GET", "/public/x", 200],
      ]) {
        const status = await send(method, path, method === "POST" ? body : undefined)
          .catch((error) => error.code ?? error.cause?.code ?? error.message);
        if (status !== expected) failures.push(`${method} ${path}: ${status}`);
      }
    }
    console.log(JSON.stringify({ client, length, failures }));
  }
}
session?.close();
agent.destroy();
