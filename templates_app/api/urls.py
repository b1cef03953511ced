from django.urls import path

from templates_app.api import views

urlpatterns = [
    path("templates", views.TemplatesView.as_view()),
    path("templates/<str:slug>", views.TemplateView.as_view()),
    path("templates/<str:slug>/schema", views.TemplateSchemaView.as_view()),
    path("templates/<str:slug>/versions", views.TemplateVersionsView.as_view()),
    path("templates/<str:slug>/health", views.TemplateHealthView.as_view()),
    path("templates/<str:slug>/validate", views.TemplateValidateView.as_view()),
]
