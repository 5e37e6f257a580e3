"""The configuration of proxies and gateways that are not ours: each passes on what it gets."""

import json
from pathlib import Path

_NGINX = """
daemon off; master_process off; worker_processes 1; pid %(folder)s/nginx.pid;
error_log %(folder)s/nginx.log;
events { worker_connections 4096; }
http {
  access_log off; client_max_body_size 0; proxy_buffering off; keepalive_requests 1000000;
  client_body_temp_path %(folder)s/body; proxy_temp_path %(folder)s/proxy;
  fastcgi_temp_path %(folder)s/f; uwsgi_temp_path %(folder)s/u; scgi_temp_path %(folder)s/s;
  client_body_buffer_size 2m; proxy_http_version 1.1; proxy_set_header Connection "";
  proxy_read_timeout 600s;
  upstream plain { server 127.0.0.1:%(plain)d; keepalive 128; keepalive_requests 1000000; }
  upstream tls { server 127.0.0.1:%(tls)d; keepalive 128; keepalive_requests 1000000; }
  server {
    listen 127.0.0.1:%(port)d;
    location / { proxy_pass http://plain; }
    location /tls/ { proxy_pass https://tls/; }
  }
}
"""
_HAPROXY = """
global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  http-reuse always
  option http-no-delay
frontend all
  bind 127.0.0.1:%(port)d
  use_backend tls if { path_beg /tls/ }
  default_backend plain
backend plain
  server one 127.0.0.1:%(plain)d
backend tls
  http-request replace-path /tls(/.*) \\1
  server one 127.0.0.1:%(tls)d ssl verify none
"""


def nginx_file(folder: Path, port: int, plain: int, tls: int) -> Path:
    """One process, no log, connections to the providers kept, nothing held back."""
    values = {"folder": folder, "port": port, "plain": plain, "tls": tls}
    return _written(folder / "nginx.conf", _NGINX % values)


def haproxy_file(folder: Path, port: int, plain: int, tls: int) -> Path:
    """One thread, connections to the providers kept."""
    return _written(folder / "haproxy.cfg", _HAPROXY % {"port": port, "plain": plain, "tls": tls})


def litellm_file(folder: Path, plain: int) -> Path:
    """A pass-through endpoint, https://docs.litellm.ai/docs/proxy/pass_through."""
    endpoint = {
        "path": "/bench",
        "target": f"http://127.0.0.1:{plain}",
        "include_subpath": True,
        "forward_headers": True,
        "headers": {"Authorization": "Bearer sk-bench"},
    }
    settings = {"general_settings": {"pass_through_endpoints": [endpoint]}}
    return _written(folder / "litellm.yaml", json.dumps(settings))


def _written(file: Path, text: str) -> Path:
    file.write_text(text, encoding="utf-8")
    return file
