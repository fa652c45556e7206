package foreign

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imprint-oci/imprint/trust"
)

// stores are notation's: names of certificates by TYPE:NAME.
func (s stage) stores(have map[string][]string) Stores {
	return func(kind, name string) ([]*x509.Certificate, error) {
		names, ok := have[kind+":"+name]
		if !ok {
			return nil, os.ErrNotExist
		}
		var out []*x509.Certificate
		for _, n := range names {
			out = append(out, s.certs[n])
		}
		return out, nil
	}
}

// meant loads what was imported, in one piece and in files, and tells what it means.
func (s stage) meant(t *testing.T, m *Imported) string {
	t.Helper()
	var said [2]string
	for i, files := range [][]File{{{"policy.yaml", m.Inline()}}, m.Files("policy.yaml")} {
		dir := stage{t.TempDir(), s.certs}
		for _, f := range files {
			dir.write(t, f.Name, string(f.Content))
		}
		p, err := trust.Load(filepath.Join(dir.dir, "policy.yaml"))
		if err != nil {
			t.Fatalf("%v\n%s", err, files[len(files)-1].Content)
		}
		if w := p.Warnings(s.certs["root"].NotBefore.Add(1)); len(w) > 0 {
			t.Errorf("it loads with %q", w)
		}
		var lines []string
		for _, scope := range p.View().Scopes {
			line := scope.Name + ": " + scope.Rule
			for _, e := range scope.Trust {
				var names []string
				for _, c := range e.Root.Certificates {
					names = append(names, s.nameOf(t, c.Raw))
				}
				slices.Sort(names)
				line += fmt.Sprintf(" %s=%s", e.Root.Name, strings.Join(names, "+"))
				if e.Root.Pin != "root" || e.Root.Kind != "ca" {
					line += "(" + e.Root.Pin + " " + e.Root.Kind + ")"
				}
				if len(e.Identities) > 0 {
					line += fmt.Sprintf("%q", e.Identities)
				}
				if e.Claims != "ignore" || len(e.Root.Identities) > 0 {
					t.Errorf("%+v", e)
				}
			}
			if len(scope.Trust) > 0 {
				e := scope.Trust[0]
				if ts := e.Timestamps; ts != nil {
					line += " " + ts.Use
					for _, c := range ts.Roots {
						line += "," + s.nameOf(t, c.Raw)
					}
				}
				line += " " + e.Revocation.Check
				if e.Revocation.Network {
					line += "!"
				}
			}
			lines = append(lines, line)
		}
		said[i] = strings.Join(lines, "\n")
	}
	if said[0] != said[1] {
		t.Errorf("in one piece it means %s, in files %s", said[0], said[1])
	}
	return said[0]
}

func TestImportNotation(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	stores := s.stores(map[string][]string{
		"ca:org": {"root"}, "ca:mixed": {"root", "ca", "own"}, "ca:other": {"other"}, "ca:empty": {}, "ca:leaf": {"leaf"}, "ca:true": {"other"},
		"signingAuthority:org": {"root"}, "signingAuthority:sa": {"other"}, "tsa:times": {"tsa", "tsa2"}, "tsa:Org": {"tsa"},
	})
	const head = `{"version":"1.0","trustPolicies":[`
	one := func(scopes, verification, stores, identities string) string {
		return fmt.Sprintf(`{"name":"%s","registryScopes":[%s],"signatureVerification":{%s},"trustStores":[%s],"trustedIdentities":[%s]}`,
			strings.ReplaceAll(scopes, `"`, ""), scopes, verification, stores, identities)
	}
	const strict, any = `"level":"strict"`, `"*"`
	for _, c := range []struct {
		name, document string
		losses         []string
		want           string
	}{
		{"everything", one(`"*"`, strict, `"ca:org"`, any), nil, "*: trust org=root enforce!"},
		{"a repository", one(`"r.example/a"`, strict, `"ca:org"`, any), []string{"below"}, "r.example/a: trust org=root enforce!"},
		{"identities", one(`"*"`, strict, `"ca:org"`, `"x509.subject:O=Acme,S=WA,C=US","x509.subject: C=DE, ST=BE, O=Other, CN=a\\,b"`), nil,
			`*: trust org=root["C=DE, ST=BE, O=Other, CN=a\\2cb" "C=US, ST=WA, O=Acme"] enforce!`},
		{"an identity of a plugin", one(`"*"`, strict, `"ca:org"`, `"x509.subject:C=US,ST=WA,O=Acme","plugin:x"`), []string{"identities"},
			`*: trust org=root["C=US, ST=WA, O=Acme"] enforce!`},
		{"identities of plugins only", one(`"*"`, strict, `"ca:org"`, `"plugin:x"`), []string{"identities"}, "*: reject"},
		{"permissive", one(`"*"`, `"level":"permissive"`, `"ca:org"`, any), []string{"level"}, "*: trust org=root log!"},
		{"audit", one(`"*"`, `"level":"audit"`, `"ca:org"`, any), []string{"level"}, "*: trust org=root log!"},
		{"overridden", one(`"*"`, `"level":"audit","override":{"authenticity":"enforce","expiry":"enforce","authenticTimestamp":"enforce","revocation":"skip"}`, `"ca:org"`, any),
			nil, "*: trust org=root off"},
		{"overridden with log", one(`"*"`, strict+`,"override":{"expiry":"log"}`, `"ca:org"`, any), []string{"level"}, "*: trust org=root enforce!"},
		{"skip", one(`"r.example/a"`, `"level":"skip"`, ``, ``), []string{"below"}, "r.example/a: accept: unsigned"},
		{"skip everything", one(`"*"`, `"level":"skip"`, ``, ``), []string{"level"}, "*: reject"},
		{"timestamps", one(`"*"`, strict, `"ca:org","tsa:times"`, any), nil, "*: trust org=root always,TSAS enforce!"},
		{"timestamps afterwards", one(`"*"`, strict+`,"verifyTimestamp":"afterCertExpiry"`, `"ca:org","tsa:Org"`, any), nil, "*: trust org=root after-cert-expiry,tsa enforce!"},
		{"timestamps without authorities", one(`"*"`, strict+`,"verifyTimestamp":"afterCertExpiry"`, `"ca:org"`, any), nil, "*: trust org=root enforce!"},
		{"only authorities of timestamps", one(`"*"`, strict, `"tsa:times"`, any), nil, "*: reject"},
		{"places in the chain", one(`"*"`, strict, `"ca:mixed"`, any), nil, "*: trust mixed=own+root mixed-intermediate=ca(intermediate ca) enforce!"},
		{"a certificate in two stores", one(`"r.example/a"`, strict, `"ca:org"`, any) + "," + one(`"*"`, strict, `"ca:mixed"`, any), []string{"below"},
			"*: trust mixed=own mixed-intermediate=ca(intermediate ca) org-mixed=root enforce!\nr.example/a: trust org-mixed=root enforce!"},
		{"a signing authority", one(`"*"`, strict, `"signingAuthority:sa"`, any), nil, "*: trust sa=other(root signing-authority) enforce!"},
		{"both kinds", one(`"*"`, strict, `"ca:org","signingAuthority:org"`, any), []string{"kind"}, "*: trust org=root enforce!"},
		{"a name that YAML would take for something else", one(`"*"`, strict, `"ca:true"`, any), nil, "*: trust true=other enforce!"},
		{"several", one(`"r.example/a","r.example/b"`, strict, `"ca:org","ca:other"`, any), []string{"below"},
			"r.example/a: trust org=root other=other enforce!\nr.example/b: trust org=root other=other enforce!"},
		{"a scope of no registry", one(`"local/a"`, strict, `"ca:org"`, any), []string{"scope"}, "*: reject"},
		{"two spellings of one repository", one(`"r.example/a"`, strict, `"ca:org"`, any) + "," + one(`"R.example:443/a"`, strict, `"ca:other"`, any),
			[]string{"below", "scope"}, "r.example/a: reject"},
		{"two spellings in one", one(`"r.example/a","R.example/a"`, strict, `"ca:org"`, any), []string{"below"}, "r.example/a: trust org=root enforce!"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m, err := Import([]byte(head+c.document+"]}"), stores)
			if err != nil {
				t.Fatal(err)
			}
			if got := codes(m.Losses); !slices.Equal(got, c.losses) {
				t.Errorf("loses %q, want %q", got, c.losses)
			}
			for _, l := range m.Losses {
				if (l.Effect == Wider) != (l.Code == lossBelow) {
					t.Errorf("%+v", l)
				}
			}
			got := strings.NewReplacer(",tsa,tsa2", ",TSAS", ",tsa2,tsa", ",TSAS").Replace(s.meant(t, m))
			if got != c.want {
				t.Errorf("means\n%s\nwant\n%s", got, c.want)
			}
			if m.From != "notation" {
				t.Error(m.From)
			}
		})
	}
}

func TestImportNotationRefuses(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	stores := s.stores(map[string][]string{"ca:org": {"root"}, "ca:empty": {}, "ca:leaf": {"leaf"}})
	good := map[string]string{
		"name": `"a"`, "registryScopes": `["*"]`, "signatureVerification": `{"level":"strict"}`, "trustStores": `["ca:org"]`, "trustedIdentities": `["*"]`,
	}
	with := func(name, value string) string {
		var members []string
		for n, v := range good {
			if n == name {
				v = value
			}
			if v != "" {
				members = append(members, fmt.Sprintf("%q:%s", n, v))
			}
		}
		return `{"version":"1.0","trustPolicies":[{` + strings.Join(members, ",") + `}]}`
	}
	if _, err := Import([]byte(with("", "")), stores); err != nil {
		t.Fatal(err)
	}
	for _, document := range []string{
		``, `[]`, `{}`, `{"trustPolicies":[]}`, `{"version":"1.0","trustPolicies":[]}`, `{"version":"2.0","trustPolicies":[{}]}`,
		with("", "") + "x", with("", "") + with("", ""), strings.Replace(with("", ""), `"version"`, `"Version":"1.0","version"`, 1), strings.Replace(with("", ""), `"1.0"`, `"1.1"`, 1),
		with("name", `""`), with("name", `"a","more":1`), with("name", `"a","name":"b"`), with("name", "\"a\xff\""),
		with("registryScopes", ""), with("registryScopes", `["*","r.example/a"]`), with("registryScopes", `["r.example"]`), with("registryScopes", `["r.example/*"]`),
		with("registryScopes", `["r.example/a","r.example/a"]`), with("registryScopes", `["r.example/A"]`), with("registryScopes", `["r.example/a:1"]`),
		with("signatureVerification", ""), with("signatureVerification", `{"level":"none"}`), with("signatureVerification", `{"level":"skip"}`),
		with("signatureVerification", `{"level":"strict","override":{"integrity":"log"}}`), with("signatureVerification", `{"level":"strict","override":{"expiry":"skip"}}`),
		with("signatureVerification", `{"level":"strict","override":{"x":"log"}}`), with("signatureVerification", `{"level":"strict","verifyTimestamp":"never"}`),
		with("trustStores", ""), with("trustStores", `["org"]`), with("trustStores", `["blob:org"]`), with("trustStores", `["ca:../org"]`), with("trustStores", `["ca:.."]`),
		with("trustStores", `["ca:empty"]`), with("trustStores", `["ca:leaf"]`),
		with("trustedIdentities", ""), with("trustedIdentities", `["*","x509.subject:C=US,ST=WA,O=Acme"]`),
		`{"version":"1.0","trustPolicies":[` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `]}`,
		`{"version":"1.0","trustPolicies":[` + strings.Repeat(" ", MaxDocument) + `]}`,
	} {
		_, err := Import([]byte(document), stores)
		var wrong *DocumentError
		if !errors.Is(err, ErrDocument) || !errors.As(err, &wrong) || wrong.Reason() != "import-malformed" {
			t.Errorf("%.200s: %v", document, err)
		}
	}
	two := strings.TrimSuffix(with("", ""), "]}") + "," + strings.TrimPrefix(with("registryScopes", `["r.example/a"]`), `{"version":"1.0","trustPolicies":[`)
	if _, err := Import([]byte(two), stores); !errors.Is(err, ErrDocument) {
		t.Errorf("two statements of one name: %v", err)
	}
	if _, err := Import([]byte(with("trustStores", `["ca:missing"]`)), stores); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a store that is not there: %v", err)
	}
}

func TestImportContainers(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	const accept, reject, signed = `[{"type":"insecureAcceptAnything"}]`, `[{"type":"reject"}]`,
		`[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/k"}]`
	for _, c := range []struct {
		name, fallback, docker, more string
		losses                       []string
		want                         string
	}{
		{name: "reject", fallback: reject, want: "*: reject"},
		{name: "accept everything", fallback: accept, losses: []string{"scope"}, want: "*: reject"},
		{name: "signed", fallback: signed, losses: []string{"signature"}, want: "*: reject"},
		{name: "a repository", fallback: reject, docker: `"r.example/a":` + accept, want: "r.example/a: accept: unsigned"},
		{name: "a namespace of Docker Hub", fallback: reject, docker: `"docker.io/acme":` + accept + `,"docker.io/library/x":` + reject,
			want: "docker.io/acme: accept: unsigned\ndocker.io/library/x: reject"},
		{name: "an exception", fallback: reject, docker: `"r.example/a":` + accept + `,"r.example/a/b":` + reject + `,"r.example/a/b/c":` + accept,
			want: "r.example/a: accept: unsigned\nr.example/a/b: reject\nr.example/a/b/c: accept: unsigned"},
		{name: "a host", fallback: reject, docker: `"r.example":` + accept, losses: []string{"scope"}, want: "r.example: reject"},
		{name: "a host that is rejected", fallback: reject, docker: `"r.example:5000":` + reject, want: "r.example:5000: reject"},
		{name: "signatures", fallback: reject, docker: `"r.example/a":` + signed + `,"r.example/b":[{"type":"sigstoreSigned","keyPath":"/k"}]`,
			losses: []string{"signature"}, want: "r.example/a: reject\nr.example/b: reject"},
		{name: "all requirements", fallback: reject, docker: `"r.example/a":[{"type":"insecureAcceptAnything"},{"type":"reject"}],"r.example/b":[{"type":"insecureAcceptAnything"},{"type":"insecureAcceptAnything"}]`,
			want: "r.example/a: reject\nr.example/b: accept: unsigned"},
		{name: "a tag", fallback: reject, docker: `"r.example/a:1":` + reject + `,"r.example/a":` + accept, losses: []string{"tag"}, want: "r.example/a: reject"},
		{name: "a digest", fallback: reject, docker: `"r.example/a@sha256:` + strings.Repeat("0", 64) + `":` + accept, losses: []string{"tag"}, want: "r.example/a: reject"},
		{name: "a wildcard", fallback: reject, docker: `"*.example":` + accept, losses: []string{"scope"}, want: "*: reject"},
		{name: "a wildcard that rejects", fallback: reject, docker: `"*.example":` + reject, want: "*: reject"},
		{name: "the default of the transport", fallback: accept, docker: `"":` + reject + `,"r.example/a":` + accept, want: "r.example/a: accept: unsigned"},
		{name: "no name", fallback: reject, docker: `"r.example/A":` + accept, losses: []string{"scope"}, want: "*: reject"},
		{name: "no host", fallback: reject, docker: `"registry":` + accept, losses: []string{"scope"}, want: "*: reject"},
		{name: "two spellings", fallback: reject, docker: `"R.example/a":` + reject + `,"r.example/a":` + accept, want: "r.example/a: reject"},
		{name: "two spellings, the other way", fallback: reject, docker: `"R.example/a":` + accept + `,"r.example/a":` + reject, want: "r.example/a: reject"},
		{name: "other transports", fallback: reject, more: `,"docker-daemon":{"":` + accept + `},"oci":{"/a":` + reject + `}`, losses: []string{"transport"}, want: "*: reject"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			document := `{"default":` + c.fallback + `,"transports":{"docker":{` + c.docker + `}` + c.more + `}}`
			m, err := Import([]byte(document), nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := codes(m.Losses); !slices.Equal(got, c.losses) {
				t.Errorf("loses %q, want %q", got, c.losses)
			}
			for _, l := range m.Losses {
				if l.Effect != Narrower {
					t.Errorf("%+v", l)
				}
			}
			if got := s.meant(t, m); got != c.want {
				t.Errorf("means\n%s\nwant\n%s", got, c.want)
			}
		})
	}
	for _, document := range []string{
		`{"default":[]}`, `{"default":[{}]}`, `{"default":[{"type":"x"}]}`, `{"default":[1]}`, `{"default":[{"type":"reject","x":1}]}`, `{"default":[{"type":"reject"}],"more":1}`,
		`{"default":[{"type":"reject"}],"default":[{"type":"reject"}]}`, `{"default":[{"type":"reject","type":"insecureAcceptAnything"}]}`,
		`{"default":[{"type":"reject"}],"transports":{"docker":{"r.example/a":[]}}}`, `{"default":[{"type":"reject"}],"transports":{"oci":{"":[]}}}`,
		`{"transports":{}}`, `{"default":[{"type":"sigstoreSigned","x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}]}`,
	} {
		if _, err := Import([]byte(document), nil); !errors.Is(err, ErrDocument) {
			t.Errorf("%s: %v", document, err)
		}
	}
}

// TestCodes: every code that a loss can have is explained, and none besides.
func TestCodes(t *testing.T) {
	t.Parallel()
	for code, sentence := range Codes() {
		if code == "" || !strings.HasSuffix(sentence, ".") {
			t.Errorf("%s: %q", code, sentence)
		}
	}
	for code, sentence := range Reasons() {
		if code == "" || !strings.HasSuffix(sentence, ".") {
			t.Errorf("%s: %q", code, sentence)
		}
	}
}

// TestImportOfHalf: a file that ends too early is told of in words.
func TestImportOfHalf(t *testing.T) {
	t.Parallel()
	for document, want := range map[string]string{"": "nothing in it", " \n": "nothing in it", "{": "ends in the middle", `{"version":"1.`: "ends in the middle"} {
		if _, err := Import([]byte(document), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", document, err, want)
		}
	}
}
