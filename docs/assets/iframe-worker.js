// Search from disk: a browser starts no worker for a file:// page, so the worker's script runs in a hidden frame instead.
// The theme would fetch such a script from a server; a site that opens without internet has its own.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    #frame = document.createElement("iframe");
    #ready;

    constructor(address) {
      super();
      this.#frame.hidden = true;
      this.#ready = new Promise((resolve, reject) => {
        const start = () => {
          document.body.append(this.#frame);
          const inside = this.#frame.contentWindow;
          inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
          const script = inside.document.createElement("script");
          script.src = address;
          script.onload = resolve;
          script.onerror = () => reject(new Error(`${address} cannot be loaded`));
          inside.document.body.append(script);
        };
        document.body ? start() : addEventListener("DOMContentLoaded", start);
      });
    }

    postMessage(data) {
      this.#ready.then(() => this.#frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.#frame.remove();
    }
  };
}
