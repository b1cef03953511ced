from rest_framework import serializers

from audit.models import AuditEvent


class AuditEventOutput(serializers.Serializer[AuditEvent]):
    id = serializers.UUIDField()
    at = serializers.DateTimeField(source="created_at")
    actor_kind = serializers.CharField()
    actor_id = serializers.UUIDField(allow_null=True)
    actor_label = serializers.CharField()
    action = serializers.CharField()
    object_type = serializers.CharField()
    object_id = serializers.CharField()
    object_label = serializers.CharField()
    before = serializers.DictField(allow_null=True)
    after = serializers.DictField(allow_null=True)
    request_id = serializers.CharField()
    ip = serializers.CharField(allow_null=True)
