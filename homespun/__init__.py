"""The Homespun client. Names are loaded on first use, so that `import homespun` is cheap."""
