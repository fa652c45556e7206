package foreign

import (
	"fmt"
	"slices"
	"strings"

	"github.com/imprint-oci/imprint/trust"
)

// KyvernoFile is the name of what is written for Kyverno.
const KyvernoFile = "kyverno.yaml"

type kyvernoPolicy struct {
	Background bool `yaml:"background"`
	Webhook    struct {
		Failure string `yaml:"failurePolicy"`
		Timeout int    `yaml:"timeoutSeconds"`
	} `yaml:"webhookConfiguration"`
	Rules []kyvernoRule `yaml:"rules"`
}

type kyvernoRule struct {
	Name     string           `yaml:"name"`
	Match    kyvernoMatch     `yaml:"match"`
	Verify   []kyvernoVerify  `yaml:"verifyImages,omitempty"`
	Validate *kyvernoValidate `yaml:"validate,omitempty"`
}

type kyvernoMatch struct {
	Any []kyvernoResources `yaml:"any"`
}

type kyvernoResources struct {
	Resources struct {
		Kinds []string `yaml:"kinds"`
	} `yaml:"resources"`
}

type kyvernoVerify struct {
	Type         string               `yaml:"type"`
	Failure      string               `yaml:"failureAction"`
	References   []string             `yaml:"imageReferences"`
	Skip         []string             `yaml:"skipImageReferences,omitempty"`
	MutateDigest bool                 `yaml:"mutateDigest"`
	VerifyDigest bool                 `yaml:"verifyDigest"`
	Required     bool                 `yaml:"required"`
	Attestors    []kyvernoAttestorSet `yaml:"attestors"`
}

type kyvernoAttestorSet struct {
	Count   int               `yaml:"count"`
	Entries []kyvernoAttestor `yaml:"entries"`
}

type kyvernoAttestor struct {
	Certificates struct {
		Cert string `yaml:"cert"`
	} `yaml:"certificates"`
}

type kyvernoValidate struct {
	Failure string           `yaml:"failureAction"`
	Message string           `yaml:"message"`
	ForEach []kyvernoForEach `yaml:"foreach"`
}

type kyvernoForEach struct {
	List string      `yaml:"list"`
	Deny kyvernoDeny `yaml:"deny"`
}

type kyvernoDeny struct {
	Conditions struct {
		Any []kyvernoCondition `yaml:"any,omitempty"`
		All []kyvernoCondition `yaml:"all,omitempty"`
	} `yaml:"conditions"`
}

type kyvernoCondition struct {
	Key      string `yaml:"key"`
	Operator string `yaml:"operator"`
	Value    any    `yaml:"value"`
}

// kyverno writes a policy whose rules have one scope each, without the longer ones. Kyverno admits what no rule is
// about, so one more rule denies whatever imprint would reject without looking at a signature.
func (x *exporter) kyverno() error {
	var p kyvernoPolicy
	p.Webhook.Failure, p.Webhook.Timeout = "Fail", 30
	rejected := map[string]bool{}
	longer := map[string][]string{} // the scopes directly below one; "" is above all
	for _, s := range x.view.Scopes {
		longer[s.Enclosing] = append(longer[s.Enclosing], s.Name)
	}
	heard := 0
	for i, s := range x.view.Scopes {
		rule, said := x.kyvernoScope(s)
		switch {
		case !said:
			rejected[s.Name] = true
			continue
		case rule != nil && !x.unwritten:
			rule.References = references(s.Name)
			for _, name := range longer[s.Name] {
				rule.Skip = append(rule.Skip, references(name)...)
			}
			p.Rules = append(p.Rules, kyvernoRule{Name: ruleName(i+1, s.Name), Match: pods(), Verify: []kyvernoVerify{*rule}})
		}
		heard++
	}
	if heard == 0 {
		return fmt.Errorf("%w that %s could say: everything would be rejected", ErrNothing, x.who)
	}
	p.Rules = append([]kyvernoRule{x.denials(rejected, longer)}, p.Rules...)
	if x.unwritten {
		return nil
	}
	x.note("Kyverno compares names as they are written: hosts with capital letters, :443 or a dot at the end, and other names of docker.io, are denied")
	b, err := documents(resource{"kyverno.io/v1", "ClusterPolicy", metadata{"imprint"}, p})
	x.add(KyvernoFile, b)
	return err
}

// kyvernoScope says a scope. said is false if everything in it is to be rejected; a nil rule accepts everything.
func (x *exporter) kyvernoScope(s trust.ScopeView) (rule *kyvernoVerify, said bool) {
	groups := [][]trust.EntryView{s.Trust}
	switch s.Rule {
	case "reject":
		return nil, false
	case "accept: unsigned":
		return nil, true
	case "require":
		groups = s.Groups
		if s.Distinct && len(groups) > 1 {
			x.lose(lossRequire, s.Name, Narrower, "Kyverno cannot ask for signatures by different keys, only for several (distinct: false); "+
				"so everything in it is rejected there")
			return nil, false
		}
	}
	if s.Delegates {
		x.lose(lossDelegate, s.Name, Narrower, "%s reads no delegation documents: granted keys are not trusted there", x.who)
	}
	rule = &kyvernoVerify{Type: "Notary", Failure: "Enforce", MutateDigest: true, VerifyDigest: true, Required: true}
	if !s.Enforced { // Kyverno changes nothing where it only reports
		rule.Failure, rule.MutateDigest, rule.VerifyDigest = "Audit", false, false
	}
	for _, group := range groups {
		set := kyvernoAttestorSet{Count: 1}
		for _, v := range x.voices(s, group) {
			var a kyvernoAttestor
			if !x.unwritten {
				a.Certificates.Cert = string(pemOf(v.certificates))
			}
			set.Entries = append(set.Entries, a)
		}
		if len(set.Entries) == 0 {
			return nil, false
		}
		rule.Attestors = append(rule.Attestors, set)
	}
	return rule, true
}

func pods() kyvernoMatch {
	var r kyvernoResources
	r.Resources.Kinds = []string{"Pod"}
	return kyvernoMatch{[]kyvernoResources{r}}
}

// references are the patterns of Kyverno for the images in a scope. Its * takes anything, / included.
func references(scope string) []string {
	switch {
	case scope == "*":
		return []string{"*"}
	case !strings.Contains(scope, "/"):
		return []string{scope + "/*"}
	}
	return []string{scope + ":*", scope + "@*", scope + "/*"}
}

// repositories are the patterns for repositories' names.
func repositories(scope string) []string {
	if scope == "*" || !strings.Contains(scope, "/") {
		return references(scope)
	}
	return []string{scope, scope + "/*"}
}

const (
	kyvernoImages     = "images.[containers, initContainers, ephemeralContainers][].*[]"
	kyvernoRepository = "{{ element.registry || '' }}/{{ element.path }}"
	kyvernoHost       = "{{ element.registry || '' }}" // Kyverno may be told not to add docker.io
	kyvernoLower      = "{{ to_lower(element.registry || '') }}"
)

// denials is the rule for what is rejected without a look at signatures.
func (x *exporter) denials(rejected map[string]bool, longer map[string][]string) kyvernoRule {
	rule := kyvernoRule{Name: "rejected", Match: pods(), Validate: &kyvernoValidate{
		Failure: "Enforce",
		Message: "the trust policy rejects this image: no scope of it accepts its repository",
	}}
	deny := func(any, all []kyvernoCondition) {
		f := kyvernoForEach{List: kyvernoImages}
		f.Deny.Conditions.Any, f.Deny.Conditions.All = any, all
		rule.Validate.ForEach = append(rule.Validate.ForEach, f)
	}
	// The same registry under another name would be in another scope.
	deny([]kyvernoCondition{
		{kyvernoHost, "AnyIn", []string{"", "index.docker.io", "registry-1.docker.io", "*:443", "*.", "*.:*"}},
		{kyvernoHost, "NotEquals", kyvernoLower},
	}, nil)
	// Kyverno takes alpine for docker.io/alpine, which is docker.io/library/alpine.
	if slices.ContainsFunc(x.view.Scopes, func(s trust.ScopeView) bool { return strings.HasPrefix(s.Name+"/", "docker.io/library/") }) {
		deny(nil, []kyvernoCondition{{kyvernoRepository, "AnyIn", []string{"docker.io/*"}}, {kyvernoRepository, "AllNotIn", []string{"docker.io/*/*"}}})
		x.note("images of docker.io/library are denied unless they are written so: Kyverno takes alpine for docker.io/alpine")
	}
	all := func(names []string) (patterns []string) {
		for _, name := range names {
			patterns = append(patterns, repositories(name)...)
		}
		return patterns
	}
	if top := longer[""]; top[0] != "*" {
		deny(nil, []kyvernoCondition{{kyvernoRepository, "AllNotIn", all(top)}})
	}
	for _, s := range x.view.Scopes {
		if !rejected[s.Name] {
			continue
		}
		conditions := []kyvernoCondition{{kyvernoRepository, "AnyIn", repositories(s.Name)}}
		if below := longer[s.Name]; len(below) > 0 {
			conditions = append(conditions, kyvernoCondition{kyvernoRepository, "AllNotIn", all(below)})
		}
		deny(nil, conditions)
	}
	return rule
}

// ruleName is one that Kyverno takes: at most 63 characters. The number makes it the only one.
func ruleName(n int, scope string) string {
	if scope == "*" {
		scope = "everything"
	}
	return fmt.Sprintf("scope-%d-%s", n, plain(scope, 45))
}
