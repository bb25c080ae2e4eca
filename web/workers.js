// Why a worker of ComfyUI-Distributed gave no picture stands here until it is closed.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

api.addEventListener("pulid.worker_failed", ({ detail }) => {
  app.extensionManager.toast.add({
    severity: "error",
    summary: `Worker ${detail.worker} gave no picture`,
    detail: detail.text,
  });
});
