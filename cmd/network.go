package cmd

import (
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"github.com/imprint-oci/imprint/registry"
)

// networkFlags are the flags of every command that say how registries are reached.
type networkFlags struct {
	caFile, clientCert, clientKey string
	plainHTTP                     bool
	allowPrivate                  bool
	trustRealms                   []string
	timeout                       duration
	maxRate                       byteRate // bound by the commands that move blobs
	perHost                       int      // requests in flight to one registry; 0: as the client has it
}

func (n *networkFlags) bind(f *pflag.FlagSet) {
	f.StringVar(&n.caFile, "ca-file", "", "trust the CA certificates in `FILE` for registries and https TSAs")
	f.StringVar(&n.clientCert, "client-cert", "", "present the client certificate in `FILE`")
	f.StringVar(&n.clientKey, "client-key", "", "its private key in `FILE`")
	f.BoolVar(&n.plainHTTP, "plain-http", false, "HTTP without TLS (loopback hosts have it by default)")
	f.StringArrayVar(&n.trustRealms, "trust-realm", nil, "believe this `HOST` when a registry sends us there for tokens")
	f.BoolVar(&n.allowPrivate, "allow-private", false, "let AIA, OCSP, CRLs and TSAs be on private addresses")
	f.Var(&n.timeout, "timeout", "give up one object after `DURATION` (5m)")
}

// options returns what the registry client needs.
func (n networkFlags) options(s *session) registry.Options {
	return registry.Options{
		CAFile:      n.caFile,
		ClientCert:  n.clientCert,
		ClientKey:   n.clientKey,
		PlainHTTP:   n.plainHTTP,
		TrustRealms: n.trustRealms,
		Timeout:     time.Duration(n.timeout),
		MaxRate:     n.maxRate.perSecond,
		UserAgent:   agent(),
		PerHost:     n.perHost,
		Credentials: registry.DockerCredentials(s.dockerDir()),
		Warn:        s.warn,
	}
}

// dockerDir returns the folder of docker's config.json.
func (s *session) dockerDir() string {
	if dir := s.env.Getenv("DOCKER_CONFIG"); dir != "" {
		return dir
	}
	if home := s.env.home(); home != "" {
		return filepath.Join(home, ".docker")
	}
	return ""
}
