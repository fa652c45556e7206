package foreign

import (
	"fmt"
	"strings"

	yaml "go.yaml.in/yaml/v4"
)

// A resource is one of Kubernetes.
type resource struct {
	Version  string   `yaml:"apiVersion"`
	Kind     string   `yaml:"kind"`
	Metadata metadata `yaml:"metadata"`
	Spec     any      `yaml:"spec"`
}

type metadata struct {
	Name string `yaml:"name"`
}

const ratifyVersion = "config.ratify.deislabs.io/v1beta1"

type ratifyVerifier struct {
	Name       string `yaml:"name"`
	Types      string `yaml:"artifactTypes"`
	Parameters struct {
		Stores map[string]map[string][]string `yaml:"verificationCertStores"`
		Policy notationPolicy                 `yaml:"trustPolicyDoc"`
	} `yaml:"parameters"`
}

type ratifyProvider struct {
	Type       string `yaml:"type"`
	Parameters struct {
		Content string `yaml:"contentType"`
		Value   string `yaml:"value"`
	} `yaml:"parameters"`
}

// RatifyFile is the name of what is written for Ratify.
const RatifyFile = "ratify.yaml"

// ratify writes one provider of keys for each trust store, and the verifier of notation with its trust policy.
func (x *exporter) ratify(repos []Repository) error {
	statements, stores, err := x.statements(repos)
	if err != nil || x.unwritten {
		return err
	}
	var out []resource
	v := ratifyVerifier{Name: "notation", Types: "application/vnd.cncf.notary.signature"}
	v.Parameters.Policy = notationPolicy{"1.0", statements}
	v.Parameters.Stores = map[string]map[string][]string{}
	for _, s := range stores.stores {
		name := dnsName(fmt.Sprintf("imprint-%s-%s", s.kind, s.name))
		for n := 2; taken(out, name); n++ {
			name = dnsName(fmt.Sprintf("imprint-%s-%s-%d", s.kind, s.name, n))
		}
		p := ratifyProvider{Type: "inline"}
		p.Parameters.Content, p.Parameters.Value = "certificate", string(pemOf(s.certs))
		out = append(out, resource{ratifyVersion, "KeyManagementProvider", metadata{name}, p})
		if v.Parameters.Stores[s.kind] == nil {
			v.Parameters.Stores[s.kind] = map[string][]string{}
		}
		v.Parameters.Stores[s.kind][s.name] = []string{name}
	}
	out = append(out, resource{ratifyVersion, "Verifier", metadata{"verifier-notation"}, v})
	b, err := documents(out...)
	x.add(RatifyFile, b)
	return err
}

func taken(rs []resource, name string) bool {
	for _, r := range rs {
		if r.Metadata.Name == name {
			return true
		}
	}
	return false
}

// dnsName makes a name of a resource (RFC 1123).
func dnsName(name string) string {
	return strings.ToLower(strings.ReplaceAll(plain(name, 200), "_", "-"))
}

// documents writes resources, --- between them.
func documents(rs ...resource) ([]byte, error) {
	var b strings.Builder
	for i, r := range rs {
		if i > 0 {
			b.WriteString("---\n")
		}
		text, err := yaml.Marshal(r)
		if err != nil {
			return nil, fmt.Errorf("writing %s %s: %w", r.Kind, r.Metadata.Name, err)
		}
		b.Write(text)
	}
	return []byte(b.String()), nil
}
