/** A first configuration: valid as it stands, every line explained. `kacme config init` prints it. */
export const STARTER_CONFIG = `# Configuration of kacme. Test it with: kacme config check --config FILE
# Every key, its default and more examples: docs/configuration.md

# Who issues: an ACME directory and an account there.
issuers:
  letsencrypt:
    # While you try things out, the staging directory has roomier limits (its certificates are not trusted):
    #   https://acme-staging-v02.api.letsencrypt.org/directory
    directory: https://acme-v02.api.letsencrypt.org/directory
    contact: [mailto:ops@example.org]
    # Read https://letsencrypt.org/repository/ first: true says that you agree.
    termsOfServiceAgreed: true

# What is issued.
certificates:
  external:
    identifiers: [cloud.example.org, api.cloud.example.org]
    issuers: [letsencrypt] # in order of preference
    key: ecdsa-p256 # or ecdsa-p384, rsa-2048, rsa-3072, rsa-4096; [ecdsa-p256, rsa-2048] for both kinds

# Who gets it: hosts that run HAProxy and are configured alike.
pools:
  loadbalancers:
    hosts: [10.0.0.11, 10.0.0.12, "10.0.0.13:2985"]
    ssh:
      user: kacme
      identity: { file: /etc/kacme/id_ed25519 } # only readable by kacme
      knownHosts: /etc/kacme/known_hosts # the pinned host keys
    haproxy: { socket: /run/haproxy/admin.sock } # needs "level admin"
    verify: { connect: ["{host}:443"] } # real handshakes with each host, not with a virtual address

# Which certificate goes to which pool, under the name that HAProxy's "crt" has.
deployments:
  - certificate: external
    pool: loadbalancers
    path: /etc/haproxy/certificates/haproxy.pem

# Where HAProxy sends requests for /.well-known/acme-challenge/ (from other machines: an address that they reach).
challenge: { listen: "127.0.0.1:8081" }

# Health, readiness and metrics.
operations: { listen: "127.0.0.1:8083" }

# Accounts, keys and bundles: a directory that only kacme can read.
store: { file: /var/lib/kacme }
`;
