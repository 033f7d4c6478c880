{{- define "optipod.fullname" -}}
{{- $default := ternary .Release.Name (printf "%s-optipod" .Release.Name) (contains "optipod" .Release.Name) -}}
{{- .Values.fullnameOverride | default $default | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "optipod.recommender" -}}{{ include "optipod.fullname" . }}-recommender{{- end }}
{{- define "optipod.controller" -}}{{ include "optipod.fullname" . }}-controller{{- end }}

{{/* The name that the certificate is for, and by which the recommender is called. */}}
{{- define "optipod.host" -}}{{ include "optipod.recommender" . }}.{{ .Release.Namespace }}.svc{{- end }}

{{- define "optipod.tlsSecret" -}}
{{- .Values.tls.secretName | default (printf "%s-tls" (include "optipod.recommender" .)) -}}
{{- end }}

{{/* What selects the pods of a component: (list $ "controller"). */}}
{{- define "optipod.selector" -}}
app.kubernetes.io/name: optipod
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* All labels of an object of a component: (list $ "controller"). */}}
{{- define "optipod.labels" -}}
{{- $ := index . 0 -}}
{{ include "optipod.selector" . }}
app.kubernetes.io/version: {{ $.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $.Release.Service }}
helm.sh/chart: {{ $.Chart.Name }}-{{ $.Chart.Version }}
{{- end }}

{{/* Usage comes from a server whose address no NetworkPolicy can know. */}}
{{- define "optipod.asksElsewhere" -}}
{{- if or .Values.config.prometheus .Values.config.prometheusURL .Values.config.custom }}true{{ end }}
{{- end }}

{{/* The API server serves ValidatingAdmissionPolicies. Plain `helm template` knows no kinds; from 1.30 on they are there. */}}
{{- define "optipod.servesAdmissionPolicies" -}}
{{- $known := .Capabilities.APIVersions -}}
{{- if or ($known.Has "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy") (not ($known.Has "apps/v1/Deployment")) }}true{{ end }}
{{- end }}

{{- define "optipod.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest }}{{ $image.repository }}@{{ $image.digest }}
{{- else }}{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{/* What the pods of both roles have alike: (list $ "controller"). */}}
{{- define "optipod.podMetadata" -}}
{{- $ := index . 0 -}}
labels:
  {{- include "optipod.labels" . | nindent 2 }}
  {{- with $.Values.pods.labels }}{{ toYaml . | nindent 2 }}{{ end }}
annotations:
  # A changed config starts the pods anew.
  checksum/config: {{ toYaml $.Values.config | sha256sum }}
  {{- with $.Values.pods.annotations }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}

{{- define "optipod.podSpec" -}}
serviceAccountName: {{ index . 1 }}
{{- with (index . 0).Values }}
{{- with .image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .pods.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .pods.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .pods.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .pods.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
enableServiceLinks: false
terminationGracePeriodSeconds: 30
securityContext:
  {{- include "optipod.podSecurity" . | nindent 2 }}
{{- end }}

{{/* Pod security "restricted". */}}
{{- define "optipod.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
# Owns the store's volume and reads mounted Secrets.
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "optipod.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Image, environment, ports and probes of a role's container. */}}
{{- define "optipod.container" -}}
image: {{ include "optipod.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
  - name: POD_NAME
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  # One arena, and large blocks given back at once: the allocator of a long-running process keeps too much otherwise.
  - {name: MALLOC_ARENA_MAX, value: "1"}
  - {name: MALLOC_MMAP_THRESHOLD_, value: "131072"}
  - {name: MALLOC_TRIM_THRESHOLD_, value: "131072"}
securityContext:
  {{- include "optipod.containerSecurity" . | nindent 2 }}
# Ready after opening its store or its first lists; not live when a tick is overdue or nothing answers.
startupProbe:
  httpGet: {path: /healthz, port: probes}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: probes}
  periodSeconds: 10
  timeoutSeconds: 5
readinessProbe:
  httpGet: {path: /readyz, port: probes}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}

{{- define "optipod.mounts" -}}
- {name: config, mountPath: /etc/optipod, readOnly: true}
{{- range $i, $mount := .Values.secretMounts }}
- {name: secret-{{ $i }}, mountPath: {{ $mount.mountPath }}, readOnly: true}
{{- end }}
{{- end }}

{{- define "optipod.volumes" -}}
- name: config
  configMap: {name: {{ include "optipod.fullname" . }}-config}
{{- range $i, $mount := .Values.secretMounts }}
- name: secret-{{ $i }}
  secret: {secretName: {{ $mount.secret }}}
{{- end }}
{{- end }}

{{/* What a caller of the recommender needs: the authority of its certificate, and a token for it alone. */}}
{{- define "optipod.callerVolume" -}}
- name: optipod
  projected:
    sources:
      - serviceAccountToken: {audience: optipod, path: token, expirationSeconds: 3600}
      - secret:
          name: {{ include "optipod.tlsSecret" . }}
          items: [{key: ca.crt, path: ca.crt}]
{{- end }}
