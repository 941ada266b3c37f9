{{- define "engram-cluster.name" -}}
{{ default .Release.Name .Values.name }}
{{- end }}

{{- define "engram-cluster.labels" -}}
app.kubernetes.io/name: engram
app.kubernetes.io/instance: {{ include "engram-cluster.name" . }}
app.kubernetes.io/part-of: engram
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
