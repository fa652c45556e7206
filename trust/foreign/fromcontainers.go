package foreign

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/imprint-oci/imprint/registry"
)

// A containersPolicy is policy.json of containers/image, containers-policy.json(5).
type containersPolicy struct {
	Default    []json.RawMessage                       `json:"default"`
	Transports map[string]map[string][]json.RawMessage `json:"transports"`
}

// The types of requirements.
const (
	acceptAnything = "insecureAcceptAnything"
	rejectAll      = "reject"
)

// ImportContainers makes a policy of the rules of a policy.json that speak of registries: reject, and insecureAcceptAnything where a
// policy can say accept: unsigned. Signatures of other kinds cannot be judged here, so what they would allow is rejected.
func ImportContainers(b []byte) (*Imported, error) {
	var doc containersPolicy
	if err := decode(b, &doc); err != nil {
		return nil, err
	}
	m := &Imported{From: "containers", named: map[Loss]bool{}}
	rule, err := m.requirements("", doc.Default)
	if err != nil {
		return nil, err
	}
	all := map[string]string{"*": rule}
	for _, transport := range slices.Sorted(maps.Keys(doc.Transports)) {
		for _, scope := range slices.Sorted(maps.Keys(doc.Transports[transport])) {
			reqs := doc.Transports[transport][scope]
			if transport != "docker" {
				if _, _, err := meaning(reqs); err != nil {
					return nil, wrong("scope %q of %s: %w", scope, transport, err)
				}
				m.lose(lossTransport, "", Narrower, "rules of the transport %s are not imported: only registries are judged by scopes", transport)
				continue
			}
			rule, err := m.requirements(scope, reqs)
			if err != nil {
				return nil, err
			}
			m.containersScope(all, scope, rule)
		}
	}
	if all["*"] == unsigned {
		m.lose(lossScope, "*", Narrower, "everything else is accepted unsigned, which a policy cannot say of all registries; so it is rejected")
	}
	delete(all, "*") // what no scope matches is rejected anyway
	for _, name := range slices.Sorted(maps.Keys(all)) {
		m.scopes = append(m.scopes, importedScope{name: name, rule: all[name]})
	}
	m.close()
	return m, nil
}

// containersScope adds a scope of the transport docker: "" for all, *.DOMAIN, HOST[/PATH], or one image of it.
func (m *Imported) containersScope(all map[string]string, scope, rule string) {
	put := func(name, rule string) {
		if all[name] != reject { // the stricter one, if an image and its repository meet here
			all[name] = rule
		}
	}
	switch {
	case scope == "":
		all["*"] = rule // it stands before the default
		return
	case strings.HasPrefix(scope, "*."):
		if rule != reject {
			m.lose(lossScope, scope, Narrower, "there are no wildcards for hosts; so what is in it and in no longer scope is rejected")
		}
		return
	case !strings.Contains(scope, "/"):
		ref, err := registry.ParseQualified(scope + "/a/b")
		if err != nil || ref.Tag != "" {
			m.lose(lossScope, scope, Narrower, "it is no host; so what is in it is rejected")
			return
		}
		if rule == unsigned {
			m.lose(lossScope, scope, Narrower, "a whole registry is accepted unsigned, which a policy says of repositories and their prefixes only; so it is rejected")
		}
		put(ref.Host, reject)
		return
	}
	repo, _, pinned := strings.Cut(scope, "@")
	// A prefix of a repository's name need not be one that a reference may have: docker.io/x is a namespace.
	ref, err := registry.ParseQualified(repo)
	name := ref.Host + "/" + ref.Path
	if err != nil {
		if ref, err = registry.ParseQualified(repo + "/a/b"); err == nil {
			name = strings.TrimSuffix(ref.Host+"/"+ref.Path, "/a/b")
		}
	}
	switch {
	case err != nil:
		m.lose(lossScope, scope, Narrower, "%v; so what is in it is rejected", err)
	case ref.Tag != "" || pinned:
		m.lose(lossTag, scope, Narrower, "scopes have no tags; so the repository %s is rejected", name)
		put(name, reject)
	default:
		put(name, rule)
	}
}

// requirements returns the rule for a scope: all of its requirements must be met.
func (m *Imported) requirements(scope string, reqs []json.RawMessage) (string, error) {
	rule, signed, err := meaning(reqs)
	if err != nil {
		return "", wrong("scope %q: %w", scope, err)
	}
	for _, kind := range signed {
		if scope == "" {
			scope = "*"
		}
		m.lose(lossSignature, scope, Narrower, "%s asks for signatures that are not Notary Project signatures; so everything in it is rejected", kind)
	}
	return rule, nil
}

// meaning returns what requirements come to, and those among them that ask for signatures.
func meaning(reqs []json.RawMessage) (rule string, signed []string, err error) {
	if len(reqs) == 0 {
		return "", nil, wrong("it has no requirements")
	}
	rule = unsigned
	for _, raw := range reqs {
		var r map[string]json.RawMessage
		var kind string
		if json.Unmarshal(raw, &r) != nil || json.Unmarshal(r["type"], &kind) != nil {
			return "", nil, wrong("a requirement has no type")
		}
		switch kind {
		case acceptAnything, rejectAll:
			if len(r) > 1 {
				return "", nil, wrong("a requirement %s says more than its type", kind)
			}
			if kind == rejectAll {
				rule = reject
			}
		case "signedBy", "sigstoreSigned", "signedBaseLayer":
			rule = reject
			signed = append(signed, kind)
		default:
			return "", nil, wrong("the requirement %q is unknown", kind)
		}
	}
	return rule, signed, nil
}
